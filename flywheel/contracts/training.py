"""The messages that turn the loop: a request for a model, the history it is trained on, how it ended."""

from __future__ import annotations

from flywheel.contracts.events import Utc
from flywheel.contracts.messages import Message
from flywheel.contracts.parity import ParityReport


class TrainingRequested(Message):
    """Somebody wants a model trained on everything accepted until `requested_at`."""

    request_id: str
    requested_at: Utc
    reason: str


class HistoryBuilt(Message):
    """Feature history is complete under `path`, for events up to `event_time_until`."""

    request_id: str
    snapshot_id: str
    path: str
    event_time_until: Utc
    arrived_until: Utc | None = None
    """Everything accepted until then is in the history; None where its builder did not say."""
    as_known: bool = False
    """Whether each row leaves out what arrived later than its own request."""
    rows: int
    reason: str
    parity: ParityReport | None = None
    """The newest comparison of served features with recomputed ones; None before the first."""


class GateResult(Message):
    """One promotion gate: what it measured, what it demands, whether it passed."""

    name: str
    passed: bool
    value: float
    demand: str


class TrainingFinished(Message):
    """How a training run ended. `version` is set when a model was registered, `deployed` when it took a role."""

    request_id: str
    finished_at: Utc
    version: str | None
    deployed: bool
    gates: tuple[GateResult, ...] = ()
    error: str | None = None
