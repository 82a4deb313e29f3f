"""Every metric of the platform: its name, meaning, unit and labels. Nothing else creates one.

Durations are in seconds, money in cents. Labels take values from declarations only, never from requests.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from flywheel.contracts.histograms import BatchHistogram

_LATENCY_BUCKETS = (
    0.0005,
    0.001,
    0.002,
    0.003,
    0.005,
    0.0075,
    0.01,
    0.015,
    0.02,
    0.03,
    0.05,
    0.075,
    0.1,
    0.25,
    0.5,
    1.0,
    5.0,
)

INGEST_EVENTS = Counter(
    "flywheel_ingest_events_total",
    "Events offered to ingest, by what became of them (accepted, invalid, unavailable).",
    ["usecase", "event", "outcome"],
)
INGEST_SECONDS = Histogram(
    "flywheel_ingest_request_seconds",
    "From a request's arrival to its answer, acknowledgement by the broker included.",
    ["usecase", "event"],
    buckets=_LATENCY_BUCKETS,
)
INGEST_IN_FLIGHT = Gauge("flywheel_ingest_in_flight_events", "Events sent to the broker and not acknowledged yet.")

FEATURES_EVENTS = Gauge(
    "flywheel_features_counted_events", "Distinct events counted in the online store.", ["usecase", "view"]
)
FEATURES_LATE = Counter("flywheel_features_late_events_total", "Events too late to be counted online.", ["usecase"])
FEATURES_UNPARSABLE = Counter(
    "flywheel_features_unparsable_records_total", "Records of event topics that are no event.", ["usecase"]
)
FEATURES_FOREIGN_STATES = Counter(
    "flywheel_features_foreign_states_total",
    "States found corrupt in the online store; each starts again from nothing.",
    ["usecase", "view"],
)
EDGE_EVENTS = Counter(
    "flywheel_edge_events_total", "Events put on the edges of their entities, ahead of the stream.", ["usecase"]
)
EDGE_UNPARSABLE = Counter(
    "flywheel_edge_unparsable_records_total", "Records of event topics that are no event.", ["usecase"]
)
EDGE_LATE = Counter(
    "flywheel_edge_late_events_total", "Events later than the declared lateness, which are not counted.", ["usecase"]
)
EDGE_LAG_SECONDS = Gauge(
    "flywheel_edge_lag_seconds", "How far the edges are behind the accepted events, wall clock.", ["usecase"]
)
EDGE_LARGEST = Gauge(
    "flywheel_edge_largest_events", "Events on the longest edge among those of the last write.", ["usecase", "view"]
)
EDGE_ABSORBED = Counter(
    "flywheel_edge_absorbed_events_total",
    "Events of edges grown too long, taken into their state without waiting for the stream.",
    ["usecase", "view"],
)
EDGE_FORGOTTEN = Counter(
    "flywheel_edge_forgotten_entities_total",
    "Entities that left the online store because no feature can see any of their events again.",
    ["usecase"],
)
FEATURES_BATCH_SECONDS = Histogram(
    "flywheel_features_batch_seconds",
    "Duration of one micro-batch, by stream (tiles, archive, decisions).",
    ["usecase", "stream"],
    buckets=(0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0),
)
FEATURES_LAG_SECONDS = Gauge(
    "flywheel_features_lag_seconds",
    "How far the stream is behind the accepted events, wall clock.",
    ["usecase", "stream"],
)
FEATURES_BACKLOG = Gauge(
    "flywheel_features_backlog_events", "Events in the broker that the stream has not processed.", ["usecase", "stream"]
)
FEATURES_ARCHIVED = Gauge(
    "flywheel_features_archived_events", "Events and decisions in the lake, duplicates included.", ["usecase", "event"]
)
FEATURES_DEAD_LETTERS = Gauge(
    "flywheel_features_dead_letters",
    "Records of event topics that are no event, by whether their begin is kept in the lake; duplicates included.",
    ["usecase", "kept"],
)
FEATURES_ERASED = Gauge(
    "flywheel_features_erased_records",
    "Events of erased persons that the broker still held and that were not archived, duplicates included.",
    ["usecase"],
)

PARITY_DECISIONS = Counter(
    "flywheel_parity_decisions_total",
    "Sampled decisions, by what became of their comparison (compared, or why there was nothing to compare).",
    ["usecase", "outcome"],
)
PARITY_VALUES = Counter(
    "flywheel_parity_values_total",
    "Windowed features of sampled decisions (equal, mismatched, stale_equal, stale_mismatched, undecidable).",
    ["usecase", "outcome"],
)
PARITY_MISMATCHES = Counter(
    "flywheel_parity_mismatches_total", "Values served otherwise than recomputed.", ["usecase", "feature"]
)
PARITY_WORST = Gauge(
    "flywheel_parity_worst_relative_difference",
    "Largest difference of the reported period, relative to the larger of the two values.",
    ["usecase", "feature"],
)
PARITY_SECONDS = Histogram(
    "flywheel_parity_check_seconds",
    "Duration of the comparison of one sample.",
    ["usecase"],
    buckets=(0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)

TRAINER_RUNS = Counter(
    "flywheel_trainer_runs_total", "Training runs by outcome (deployed, rejected, failed).", ["usecase", "outcome"]
)
TRAINER_SECONDS = Gauge("flywheel_trainer_last_run_seconds", "Duration of the last training run.", ["usecase"])
TRAINER_ROWS = Gauge("flywheel_trainer_last_run_rows", "Rows of the last training set.", ["usecase"])

SERVING_DECISIONS = Counter(
    "flywheel_serving_decisions_total",
    "Decisions answered, by why the model did not decide on what it reads (none: it did; features_stale, "
    "features_unavailable, model_unavailable, deadline).",
    ["usecase", "action", "arm", "fallback"],
)
SERVING_REFUSED = Counter("flywheel_serving_refused_total", "Requests refused, by gRPC status.", ["usecase", "status"])
SERVING_CERTIFICATE_DAYS = Gauge(
    "flywheel_serving_certificate_days", "Days until the certificate of the gRPC port expires; 0 without TLS."
)
SERVING_SECONDS = BatchHistogram(
    "flywheel_serving_decision_seconds",
    "Duration of a decision inside the service.",
    ["usecase"],
    buckets=_LATENCY_BUCKETS,
)
SERVING_STAGE_SECONDS = BatchHistogram(
    "flywheel_serving_stage_seconds",
    "Duration of one stage of a decision.",
    ["usecase", "stage"],
    buckets=_LATENCY_BUCKETS,
)
SERVING_FEATURE_LAG_SECONDS = Gauge(
    "flywheel_serving_feature_lag_seconds",
    "How far the features of the last decision were behind the accepted events.",
    ["usecase"],
)
SERVING_FEATURE_STATUS = Counter(
    "flywheel_serving_feature_status_total",
    "Decisions by the status of their features (fresh, stale, missing, unavailable): of windows by entity, of loaded "
    "attributes by table.",
    ["usecase", "source", "status"],
)
SERVING_ATTRIBUTE_AGE_SECONDS = Gauge(
    "flywheel_serving_attribute_age_seconds",
    "Age of the table's load that the last decision found, at the time of its event; negative for one as of later.",
    ["usecase", "table"],
)
SERVING_RANKING_CANDIDATES = Histogram(
    "flywheel_serving_ranking_candidates",
    "Candidates that a ranking had to choose from.",
    ["usecase"],
    buckets=(1, 5, 10, 20, 50, 100, 200, 500, 1_000),
)
SERVING_RANKING_DROPPED = Counter(
    "flywheel_serving_ranking_dropped_candidates_total",
    "Candidates that were not ranked, by reason (a declared filter, unknown, unreadable).",
    ["usecase", "reason"],
)
SERVING_CACHED_ROWS = Counter(
    "flywheel_serving_cached_rows_total",
    "Rows of cached tables that decisions asked for, by whether they were there (hit) or had to be read (miss).",
    ["usecase", "entity", "outcome"],
)
SERVING_CACHED_AGE_SECONDS = Gauge(
    "flywheel_serving_cached_age_seconds",
    "How long ago the oldest cached row of the last decision was read.",
    ["usecase", "entity"],
)
SERVING_LOG_LOST = Counter(
    "flywheel_serving_log_lost_total", "Decisions answered but not logged, by reason.", ["usecase", "reason"]
)
SERVING_LOG_ACKED = Counter(
    "flywheel_serving_log_acknowledged_total", "Decisions logged and acknowledged by the broker.", ["usecase"]
)
SERVING_LOG_IN_FLIGHT = Gauge(
    "flywheel_serving_log_in_flight_decisions", "Decisions answered and neither acknowledged nor lost yet.", ["usecase"]
)
SERVING_LOG_REPLAYED = Counter(
    "flywheel_serving_log_replayed_total",
    "Decisions that an earlier process left in the spool, acknowledged by the broker.",
    ["usecase"],
)
SERVING_LOG_UNPROTECTED = Counter(
    "flywheel_serving_log_unprotected_total",
    "Decisions declared durable that were answered before they were on disk, by reason (full, unwritable, slow).",
    ["usecase", "reason"],
)
SERVING_SPOOL_BYTES = Gauge(
    "flywheel_serving_spool_bytes", "Size of the decisions on disk that the broker has not acknowledged.", ["usecase"]
)
SERVING_EXPLANATIONS = Counter(
    "flywheel_serving_explanations_total",
    "Explanations asked for, by outcome (explained, no_model, unsupported_model, no_time, overloaded, failed).",
    ["usecase", "outcome"],
)
SERVING_EXPLANATION_SECONDS = Histogram(
    "flywheel_serving_explanation_seconds",
    "Duration of the computation of one explanation.",
    ["usecase"],
    buckets=_LATENCY_BUCKETS,
)
SERVING_FOREIGN_STATES = Counter(
    "flywheel_serving_foreign_states_total",
    "Feature states refused as corrupt or not of this declaration.",
    ["usecase"],
)
SERVING_ADMISSION_LIMIT = Gauge(
    "flywheel_serving_admission_limit", "Requests that may be under way at once, as measured.", ["usecase"]
)
SERVING_IN_FLIGHT = Gauge(
    "flywheel_serving_in_flight_requests", "Admitted requests without an answer yet.", ["usecase", "criticality"]
)
SERVING_NOT_ADMITTED = Counter(
    "flywheel_serving_not_admitted_total",
    "Requests refused before anything was done for them, by reason (limit, priority, deadline, expired).",
    ["usecase", "criticality", "reason"],
)
SERVING_LOOP_LAG_SECONDS = Gauge(
    "flywheel_serving_loop_lag_seconds", "How long a request waits until the process reads it, on average."
)
SERVING_WORKERS_DIED = Counter(
    "flywheel_serving_workers_died_total",
    "Worker processes of serving that ended untold (died), were killed because nothing was heard of them (hung) or "
    "because they did not end in time when told to (not_ended); those that died or hung are replaced.",
    ["reason"],
)
SERVING_BREAKER_OPEN = Gauge(
    "flywheel_serving_breaker_open", "1 while a dependency is not asked because it does not answer.", ["dependency"]
)
SERVING_INFERENCES = Counter(
    "flywheel_serving_inferences_total",
    "Requests for a model's scores, by face (grpc, rest) and outcome (answered, invalid, unknown_model, not_ready, "
    "model_failed, out_of_time, cancelled, failed).",
    ["usecase", "face", "outcome"],
)
SERVING_INFERENCE_ROWS = Counter(
    "flywheel_serving_inference_rows_total", "Rows scored in requests for a model's scores.", ["usecase"]
)
SERVING_INFERENCE_SECONDS = Histogram(
    "flywheel_serving_inference_seconds",
    "From a request for a model's scores to its answer.",
    ["usecase"],
    buckets=_LATENCY_BUCKETS,
)
SERVING_MODEL_FAILURES = Counter(
    "flywheel_serving_model_failures_total",
    "Deployments refused at loading, and scores that failed.",
    ["usecase", "at"],
)
SERVING_MODEL_LOADED = Gauge(
    "flywheel_serving_model_loaded", "1 for each loaded model version, by role.", ["usecase", "role", "version"]
)
SERVING_MODELS_DEGRADED = Gauge(
    "flywheel_serving_models_degraded",
    "1 while models come from the local copy, or the deployment log cannot be followed.",
    ["usecase"],
)
SERVING_ARMS_STOPPED = Counter(
    "flywheel_serving_arms_stopped_total",
    "Challengers, canaries and shadows taken out here because their model failed.",
    ["usecase", "role"],
)
SERVING_SHADOW = Counter(
    "flywheel_serving_shadow_decisions_total",
    "Decisions for the shadow, by what became of them (scored, dropped, failed).",
    ["usecase", "outcome"],
)
SERVING_SHADOW_LOST = Counter(
    "flywheel_serving_shadow_lost_total", "Scores of the shadow that were not logged, by reason.", ["usecase", "reason"]
)

MONITOR_PSI = Gauge(
    "flywheel_monitor_psi",
    "Population stability index of a variable against the training reference.",
    ["usecase", "variable"],
)
MONITOR_PSI_NOISE = Gauge(
    "flywheel_monitor_psi_noise", "PSI that sampling alone explains at 99.9 %.", ["usecase", "variable"]
)
MONITOR_DRIFTED = Gauge(
    "flywheel_monitor_drifted", "1 while a variable drifts beyond threshold and noise.", ["usecase", "variable"]
)
MONITOR_QUALITY = Gauge(
    "flywheel_monitor_quality",
    "Quality on matured decisions (precision, recall, auc, average_precision), by arm and of all together.",
    ["usecase", "arm", "metric"],
)
MONITOR_SAVED_CENTS = Gauge(
    "flywheel_monitor_saved_cents",
    "Money saved on matured decisions against approving everything, by arm and of all.",
    ["usecase", "arm"],
)
MONITOR_MATURED = Gauge(
    "flywheel_monitor_matured_decisions",
    "Decisions whose truth is known, in the window, by arm and of all.",
    ["usecase", "arm"],
)
MONITOR_SRM_P = Gauge(
    "flywheel_monitor_sample_ratio_p_value", "p-value of the sample-ratio check of the experiment.", ["usecase"]
)
MONITOR_ROLLOUT_STEPS = Counter(
    "flywheel_monitor_rollout_steps_total",
    "Steps of canaries, by what was done (advance, roll_back).",
    ["usecase", "step"],
)
MONITOR_CANARY_DECISIONS = Gauge(
    "flywheel_monitor_canary_decisions", "Decisions of the canary since its step began.", ["usecase"]
)
MONITOR_CANARY_LATE = Gauge(
    "flywheel_monitor_canary_late_requests",
    "Requests since the canary's step began whose answer came too late to be given, by the arm of their unit.",
    ["usecase", "arm"],
)
MONITOR_FALLBACK_SHARE = Gauge(
    "flywheel_monitor_arm_fallback_share",
    "Of the decisions of an arm, those that a fallback made and not its model.",
    ["usecase", "arm"],
)
MONITOR_SHADOW_OTHERWISE = Gauge(
    "flywheel_monitor_shadow_otherwise_share", "Decisions that the shadow would have made otherwise.", ["usecase"]
)
MONITOR_SHADOW_PSI = Gauge(
    "flywheel_monitor_shadow_psi", "Population stability index of the shadow's scores against the served.", ["usecase"]
)
MONITOR_ANSWERED = Gauge(
    "flywheel_monitor_answered_decisions",
    "Decisions that serving answered, by what became of them (logged, lost, under_way, unexplained).",
    ["usecase", "outcome"],
)
MONITOR_LAG = Gauge("flywheel_monitor_lag_records", "Records the monitor has not read yet.", ["usecase"])

WORLD_EVENTS = Counter(
    "flywheel_world_events_total", "Events the world sent, by what came back.", ["usecase", "event", "outcome"]
)
WORLD_DECISIONS = Counter(
    "flywheel_world_decisions_total", "Decisions the world asked for, by action.", ["usecase", "action"]
)
WORLD_BEHIND_SECONDS = Gauge(
    "flywheel_world_behind_seconds", "How far the world is behind its own schedule, wall clock.", ["usecase"]
)

SUPERVISOR_RESTARTS = Gauge(
    "flywheel_supervisor_restarts", "Restarts of a process since it was first started.", ["process"]
)
