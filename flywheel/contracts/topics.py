"""Every topic of the broker: its name, what it carries, who writes and who reads it."""

from __future__ import annotations

from dataclasses import dataclass, replace

PERSONAL_RETENTION_HOURS = 28 * 24
"""How long the broker keeps what may be about a person. A single record cannot be deleted from its log, so this and the
day after which a segment is closed bound how long something erased lies there: below a month together."""

EVENT_PARTITIONS = 2
"""Of a topic of events or of decisions, unless a stack is set to more."""


@dataclass(frozen=True)
class Topic:
    """A topic and its fixed properties. `retention_hours=None` keeps everything, `compacted` each key's newest."""

    name: str
    carries: str
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    partitions: int = 1
    retention_hours: int | None = None
    compacted: bool = False


def event_topic(usecase: str, event_name: str) -> Topic:
    """The topic of one event of one use case. The lake is the lasting record; the broker keeps the last weeks."""
    return Topic(
        name=f"{usecase}.events.{event_name}",
        carries="flywheel.contracts.events.Envelope",
        producers=("ingest",),
        consumers=("features", "monitor"),
        partitions=EVENT_PARTITIONS,
        retention_hours=PERSONAL_RETENTION_HOURS,
    )


def decisions_topic(usecase: str) -> Topic:
    """Every decision as it was answered; of a use case that ranks every ranking, `flywheel.contracts.rankings`."""
    return Topic(
        name=f"{usecase}.decisions",
        carries="flywheel.contracts.decisions.DecisionLogged",
        producers=("serving",),
        consumers=("monitor", "features"),
        partitions=EVENT_PARTITIONS,
        retention_hours=PERSONAL_RETENTION_HOURS,
    )


def shadow_topic(usecase: str) -> Topic:
    """What the shadow would have said, decision by decision; nobody whom it was about is named."""
    return Topic(
        name=f"{usecase}.shadow",
        carries="flywheel.contracts.shadows.ShadowScored",
        producers=("serving",),
        consumers=("monitor",),
        retention_hours=7 * 24,
    )


def training_requests_topic(usecase: str) -> Topic:
    """Someone or something wants a new model."""
    return Topic(
        name=f"{usecase}.training.requests",
        carries="flywheel.contracts.training.TrainingRequested",
        producers=("monitor", "client"),
        consumers=("features",),
    )


def history_topic(usecase: str) -> Topic:
    """A snapshot of feature history is complete and may be trained on."""
    return Topic(
        name=f"{usecase}.training.history",
        carries="flywheel.contracts.training.HistoryBuilt",
        producers=("features",),
        consumers=("trainer",),
    )


def training_results_topic(usecase: str) -> Topic:
    """How a training run ended: which gates passed, what was deployed."""
    return Topic(
        name=f"{usecase}.training.results",
        carries="flywheel.contracts.training.TrainingFinished",
        producers=("trainer", "features"),
        consumers=("monitor", "client"),
    )


def erasures_topic(usecase: str) -> Topic:
    """Whose data is gone and until when, for ever: a replay of anything else must not bring them back."""
    return Topic(
        name=f"{usecase}.erasures",
        carries="flywheel.contracts.erasure.Erased",
        producers=("client",),
        consumers=("features", "monitor"),
        compacted=True,
    )


def parity_topic(usecase: str) -> Topic:
    """How features as served compare with the same features recomputed; each report is of the last hour or so."""
    return Topic(
        name=f"{usecase}.parity",
        carries="flywheel.contracts.parity.ParityReport",
        producers=("features",),
        consumers=("monitor", "features"),
        retention_hours=7 * 24,
    )


def topics_of(usecase: str, event_names: tuple[str, ...], partitions: int = EVENT_PARTITIONS) -> tuple[Topic, ...]:
    """All topics that one use case needs, in the order in which they are made; so many partitions have those of events
    and of decisions."""
    return (
        *(replace(event_topic(usecase, name), partitions=partitions) for name in event_names),
        replace(decisions_topic(usecase), partitions=partitions),
        shadow_topic(usecase),
        training_requests_topic(usecase),
        history_topic(usecase),
        training_results_topic(usecase),
        erasures_topic(usecase),
        parity_topic(usecase),
    )
