"""Every topic of the broker: its name, what it carries, who writes and who reads it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Topic:
    """A topic and its fixed properties. `retention_hours=None` keeps everything."""

    name: str
    carries: str
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    partitions: int = 1
    retention_hours: int | None = None


def event_topic(usecase: str, event_name: str) -> Topic:
    """The topic of one event of one use case."""
    return Topic(
        name=f"{usecase}.events.{event_name}",
        carries="flywheel.contracts.events.Envelope",
        producers=("ingest",),
        consumers=("features", "monitor"),
        partitions=2,
    )


def decisions_topic(usecase: str) -> Topic:
    """Every decision as it was answered."""
    return Topic(
        name=f"{usecase}.decisions",
        carries="flywheel.contracts.decisions.DecisionLogged",
        producers=("serving",),
        consumers=("monitor", "features"),
        partitions=2,
        retention_hours=30 * 24,
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


def topics_of(usecase: str, event_names: tuple[str, ...]) -> tuple[Topic, ...]:
    """All topics that one use case needs, in the order in which they are made."""
    return (
        *(event_topic(usecase, name) for name in event_names),
        decisions_topic(usecase),
        training_requests_topic(usecase),
        history_topic(usecase),
        training_results_topic(usecase),
    )
