"""Puts serving together; the only place that chooses its parts."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from flywheel.adapters.cached_reader import CachedReader
from flywheel.adapters.decision_spool import SpooledDecisionLog
from flywheel.adapters.file_model_store import FileModelStore
from flywheel.adapters.grpc_server.calls import Unary, awaited
from flywheel.adapters.guarded_reader import GuardedReader
from flywheel.adapters.guarded_scorer import GuardedScorer
from flywheel.adapters.http_server import HttpServer
from flywheel.adapters.kafka_decision_log import KafkaDecisionLog
from flywheel.adapters.last_good_models import LastGoodModels
from flywheel.adapters.logs import Pseudonyms
from flywheel.adapters.onnx_scorer import OnnxScorer
from flywheel.adapters.redis_store import RedisFeatureReader
from flywheel.adapters.request_ids import new_id
from flywheel.adapters.tracing import UNTRACED, Tracing, open_tracing
from flywheel.contracts.metrics import (
    SERVING_BREAKER_OPEN,
    SERVING_CACHED_AGE_SECONDS,
    SERVING_CACHED_ROWS,
    SERVING_LOG_IN_FLIGHT,
    SERVING_SHADOW_LOST,
    SERVING_SPOOL_BYTES,
)
from flywheel.contracts.topics import decisions_topic, shadow_topic
from flywheel.kernel import catalog
from flywheel.kernel.admission import Admission
from flywheel.kernel.concurrency import Bounds
from flywheel.kernel.decision import Decided, Decider
from flywheel.kernel.decision.ranker import Ranker
from flywheel.kernel.declaration import UseCase
from flywheel.kernel.plan import compile_plan
from flywheel.kernel.ports import DecisionLog, FeatureReader, ModelStore
from flywheel.kernel.ranking import Ranking
from flywheel.kernel.timing import Clock
from services.serving.decisions.account import Account, NumberedLog
from services.serving.decisions.explaining import Explainer
from services.serving.decisions.journal import Journal
from services.serving.decisions.servicer import DecisionsServicer, Desk
from services.serving.decisions.traces import AnswerTraces
from services.serving.decisions.warming import WarmUp
from services.serving.inference.methods import inference_methods
from services.serving.inference.plane import Inference
from services.serving.inference.repository import Repository
from services.serving.models.arms import ArmFailures
from services.serving.models.line_up import Models
from services.serving.models.shadow import Shadow
from services.serving.port.gate import AdmissionGate
from services.serving.port.port import certificates_of
from services.serving.rankings.journal import RankingJournal
from services.serving.rankings.servicer import RANK, RankingDesk, Rankings
from services.serving.rest.app import rest_app
from services.serving.rest.methods import Methods
from services.serving.server import Server
from services.serving.settings import ServingSettings

CLOCK = Clock(wall_us=lambda: time.time_ns() // 1000, steady_s=time.perf_counter)

# A timeout of half the declared share says something about the store; a shorter one only about the caller.
_TELLING_SHARE = 0.5


def real_server(settings: ServingSettings) -> Server:
    """Serving on the Redis, Kafka and model directory that the settings name."""
    usecase = catalog.load(settings.usecase)
    if not settings.world_enabled:
        # Nobody plays it: event times are those of the wall clock.
        usecase = replace(usecase, world="")
    return build(
        settings,
        usecase,
        reader=RedisFeatureReader(settings.redis_url, compile_plan(usecase)),
        store=FileModelStore(settings.model_dir),
        log=_decision_log(settings, usecase),
        tracing=open_tracing("serving", settings),
    )


def build(
    settings: ServingSettings,
    usecase: UseCase,
    *,
    reader: FeatureReader,
    store: ModelStore,
    log: DecisionLog,
    open_shadow_log: Callable[[], DecisionLog] | None = None,
    tracing: Tracing = UNTRACED,
) -> Server:
    """Serving of one use case on any parts; what a shadow says goes to Kafka unless another log is given."""
    name = usecase.name
    SERVING_LOG_IN_FLIGHT.labels(name).set_function(lambda: log.in_flight)
    guarded = GuardedReader(
        reader,
        patience_s=usecase.budget.features_ms / 1000 * _TELLING_SHARE,
        steady_s=CLOCK.steady_s,
        on_change=SERVING_BREAKER_OPEN.labels("feature_store").set,
    )
    features = _remembering(settings, usecase, guarded)
    models = Models(
        usecase,
        store,
        OnnxScorer,
        last_good=LastGoodModels(settings.last_good_dir),
        guard=partial(GuardedScorer, patience_s=usecase.budget.total_ms / 1000, steady_s=CLOCK.steady_s),
    )
    SERVING_BREAKER_OPEN.labels("model").set_function(lambda: _any_model_away(models))
    verbose = settings.log_level.upper() == "DEBUG"
    failures = ArmFailures(models.stop)
    shadow = Shadow(
        usecase,
        models.lineup,
        open_shadow_log or (lambda: _shadow_log(settings, usecase)),
        capacity=settings.serving_shadow_capacity,
        on_failed=failures.failed_alone,
        on_scored=failures.scored,
    )

    def answered(decisions: Sequence[Decided]) -> None:
        failures.answered(decisions)
        shadow.offer(decisions)

    journal = Journal(
        usecase,
        log,
        Pseudonyms(settings.pseudonym_key),
        verbose=verbose,
        on_answered=answered,
        on_model_failed=failures.failed,
    )
    repository = Repository(usecase, models.lineup, lambda: store.versions(name))
    inference = Inference(usecase, repository, max_rows=settings.serving_inference_max_rows)
    if isinstance(usecase.policy, Ranking):
        unary = _ranking(settings, usecase, usecase.policy, features, models, log, failures, tracing)
    else:
        decider = Decider(usecase, features, models.lineup, clock=CLOCK, new_id=new_id, observer=journal)
        desk = Desk(decider, journal, Explainer(usecase), traces=AnswerTraces(tracing))
        servicer = DecisionsServicer({name: desk}, max_subject_bytes=settings.serving_max_subject_bytes)
        unary = servicer.unary()
    unary = {**unary, **inference_methods(inference)}
    gate = _gate(settings, usecase)
    return Server(
        settings,
        unary,
        models=models,
        reader=guarded,
        log=log,
        shadow=shadow,
        inference=inference,
        rest=_rest(settings, usecase, inference, Methods(unary, gate)),
        gate=gate,
        tracing=tracing,
        warm_up=WarmUp(usecase, reader, models.lineup, clock=CLOCK, new_id=new_id),
    )


def _remembering(settings: ServingSettings, usecase: UseCase, reader: FeatureReader) -> FeatureReader:
    """The reader, with a memory for the tables that are declared to be cached."""
    if all(read.cached_us is None for read in usecase.attribute_reads):
        return reader
    name = usecase.name

    def looked(entity: str, hits: int, misses: int, oldest_s: float) -> None:
        SERVING_CACHED_ROWS.labels(name, entity, "hit").inc(hits)
        SERVING_CACHED_ROWS.labels(name, entity, "miss").inc(misses)
        SERVING_CACHED_AGE_SECONDS.labels(name, entity).set(oldest_s)

    return CachedReader(
        reader, usecase, capacity=settings.serving_cached_entities, steady_s=CLOCK.steady_s, on_lookup=looked
    )


def _ranking(
    settings: ServingSettings,
    usecase: UseCase,
    ranking: Ranking,
    reader: FeatureReader,
    models: Models,
    log: DecisionLog,
    failures: ArmFailures,
    tracing: Tracing,
) -> dict[str, Unary]:
    """What a use case that ranks answers."""
    name = usecase.name
    journal = RankingJournal(
        usecase,
        ranking,
        log,
        Pseudonyms(settings.pseudonym_key),
        on_model_failed=failures.failed,
        on_ranked=failures.answered,
    )
    ranker = Ranker(
        usecase,
        reader,
        models.lineup,
        clock=CLOCK,
        new_id=new_id,
        observer=journal,
        max_candidates=settings.serving_max_candidates,
    )
    desk = RankingDesk(ranker, journal, AnswerTraces(tracing, "rank"))
    return {RANK: awaited(Rankings({name: desk}).rank)}


def _gate(settings: ServingSettings, usecase: UseCase) -> AdmissionGate:
    bounds = Bounds(budget_s=usecase.budget.total_ms / 1000, highest=settings.serving_max_in_flight)
    return AdmissionGate(usecase, Admission(bounds))


def _any_model_away(models: Models) -> bool:
    return any(
        isinstance(model.scorer, GuardedScorer) and model.scorer.is_open for _, model in models.lineup().models()
    )


def _rest(settings: ServingSettings, usecase: UseCase, inference: Inference, methods: Methods) -> HttpServer | None:
    if not settings.serving_rest_address:
        return None
    return HttpServer(
        rest_app(settings, usecase, inference, methods),
        grace_s=settings.serving_drain_s,
        certificates=certificates_of(settings, "http/1.1"),
    )


def _decision_log(settings: ServingSettings, usecase: UseCase) -> DecisionLog:
    name = usecase.name
    account = Account(name)
    told, writer = account.told, uuid.uuid4().hex
    queue = KafkaDecisionLog(
        settings.kafka_bootstrap,
        decisions_topic(name).name,
        on_acknowledged=told.acknowledged,
        on_lost=told.lost,
        capacity=settings.serving_log_capacity,
    )
    if not usecase.durable_log:
        return NumberedLog(queue, writer, account)
    spool = SpooledDecisionLog(
        queue,
        settings.data_dir / "spool" / name,
        told,
        promise=settings.serving_spool_promise,
        capacity_bytes=settings.serving_spool_mib * 1024 * 1024,
        patience_s=settings.serving_spool_patience_ms / 1000,
    )
    SERVING_SPOOL_BYTES.labels(name).set_function(lambda: spool.size_bytes)
    return NumberedLog(spool, writer, account)


def _shadow_log(settings: ServingSettings, usecase: UseCase) -> DecisionLog:
    name = usecase.name
    return KafkaDecisionLog(
        settings.kafka_bootstrap,
        shadow_topic(name).name,
        on_acknowledged=lambda: None,
        on_lost=lambda reason: SERVING_SHADOW_LOST.labels(name, reason).inc(),
        capacity=settings.serving_shadow_capacity,
    )
