"""What is told of decisions: metrics, the decision log, a line in the logs. Nothing here makes an answer wait."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence

from flywheel.adapters.logs import Pseudonyms, logger
from flywheel.contracts.metrics import SERVING_FOREIGN_STATES, SERVING_MODEL_FAILURES, SERVING_REFUSED
from flywheel.kernel.decision import Answered, Decided
from flywheel.kernel.declaration import UseCase
from flywheel.kernel.ports import DecisionLog
from flywheel.kernel.subject import InvalidSubject
from services.serving.decisions.counts import DecisionCounts
from services.serving.decisions.unanswered import UnansweredNotes

_WARN_EVERY_S = 5.0

_log = logger(__name__)


class Journal:
    """The journal of one use case. With `verbose` each decision has a line of its own, at debug level."""

    def __init__(
        self,
        usecase: UseCase,
        log: DecisionLog,
        pseudonyms: Pseudonyms,
        *,
        verbose: bool = False,
        steady_s: Callable[[], float] = time.monotonic,
        on_answered: Callable[[Sequence[Decided]], None] = lambda _: None,
        on_model_failed: Callable[[str, str], None] = lambda *_: None,
    ) -> None:
        self._on_answered = on_answered
        self._on_model_failed = on_model_failed
        self._usecase = usecase
        self._decisions = log
        self._pseudonyms = pseudonyms
        self._verbose = verbose
        self._limit = _Limit(steady_s)
        self._counts = DecisionCounts(usecase.name)
        self._unanswered = UnansweredNotes()

    def answered(self, decisions: Sequence[Decided]) -> Awaitable[None] | None:
        """These decisions are about to be answered, as soon as what comes back is done; None: at once."""
        records = [(decision.unit.encode(), decision.to_bytes()) for decision in decisions]
        waiting = self._decisions.append_many(self._unanswered.told_by(records))
        self._counts.decided(decisions)
        self._on_answered(decisions)
        if self._verbose:
            for decision in decisions:
                self._write(decision)
        return waiting

    def refused(self, status: str, request_id: str, error: Exception | None = None) -> None:
        """A request was refused with that gRPC status, because of that error."""
        SERVING_REFUSED.labels(self._usecase.name, status).inc()
        self._warn("decision_refused", status, status=status, request_id=request_id, reason=self._told(error))

    def failed(self, request_id: str, error: Exception) -> None:
        """A request met an error that nobody foresaw."""
        SERVING_REFUSED.labels(self._usecase.name, "INTERNAL").inc()
        _log.error("decision_failed", request_id=request_id, exc_info=error)

    def features_unavailable(self, reason: str) -> None:
        """The feature store did not answer; the rule decides."""
        self._warn("features_unavailable", reason=reason)

    def foreign_state(self, reason: str) -> None:
        """A stored state was refused; the rule decides."""
        SERVING_FOREIGN_STATES.labels(self._usecase.name).inc()
        self._warn("foreign_state", reason=reason)

    def model_failed(self, version: str, reason: str) -> None:
        """A model gave no score; the rule decides."""
        SERVING_MODEL_FAILURES.labels(self._usecase.name, "scoring").inc()
        self._warn("model_failed", version, version=version, reason=reason)
        self._on_model_failed(version, reason)

    def unanswered(self, late: Answered, model_ms: float | None) -> None:
        """An answer came too late to be given; the log tells whose models were the arms."""
        self._unanswered.add(late, model_ms)

    def _told(self, error: Exception | None) -> str:
        if not isinstance(error, InvalidSubject):
            return str(error or "")
        # Declared names and reasons only: whatever else was sent may identify a person.
        declared = not error.field or error.field in self._usecase.request.model_fields
        return f"{(error.field or 'subject') if declared else '(undeclared)'}: {error.reason}"

    def _warn(self, event: str, kind: str = "", **details: object) -> None:
        unsaid = self._limit.admits(event + kind)
        if unsaid is not None:
            _log.warning(event, usecase=self._usecase.name, unsaid=unsaid, **details)

    def _write(self, decision: Decided) -> None:
        unit = {self._usecase.experiment.unit: decision.unit}
        _log.debug(
            "decided",
            decision_id=decision.decision_id,
            request_id=decision.request_id,
            **self._pseudonyms.redact(self._usecase.request, unit),
            action=decision.action,
            score=decision.score,
            model_version=decision.model_version,
            fallback=decision.fallback,
            total_ms=decision.stage_ms["total"],
        )


class _Limit:
    """Lets one warning of a kind through every few seconds, and counts those it held back."""

    def __init__(self, steady_s: Callable[[], float]) -> None:
        self._steady_s = steady_s
        self._next_s: dict[str, float] = {}
        self._held: dict[str, int] = {}

    def admits(self, kind: str) -> int | None:
        """How many were held back since the last one, or None to hold this one back too."""
        now_s = self._steady_s()
        if now_s < self._next_s.get(kind, now_s):
            self._held[kind] = self._held.get(kind, 0) + 1
            return None
        self._next_s[kind] = now_s + _WARN_EVERY_S
        return self._held.pop(kind, 0)
