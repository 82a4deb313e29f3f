"""What the monitor has seen: turns records of the log into counts, the newest decisions and the ledger of outcomes."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterable

from pydantic import BaseModel, ValidationError

from flywheel.adapters.logs import logger
from flywheel.contracts.decisions import DecisionLogged, Fallback, Numbered
from flywheel.contracts.erasure import Erased
from flywheel.contracts.events import Envelope, Utc, to_us
from flywheel.contracts.models import Role
from flywheel.contracts.parity import ParityReport
from flywheel.contracts.rankings import decisions_of
from flywheel.contracts.shadows import ShadowScored
from flywheel.contracts.topics import (
    decisions_topic,
    erasures_topic,
    event_topic,
    parity_topic,
    shadow_topic,
    training_results_topic,
)
from flywheel.contracts.training import TrainingFinished
from flywheel.kernel.declaration import UseCase
from flywheel.kernel.durations import SECOND_US
from flywheel.kernel.erasure import EraseKey, Erasures, named_in, unit_entity
from flywheel.kernel.maturity import Decided, Ledger
from flywheel.kernel.policy import Action
from flywheel.kernel.ports import Record
from flywheel.kernel.reconciliation import Reconciliation
from services.monitor.arms import Arms
from services.monitor.shadows import Shadows

_RUNS_KEPT = 8
_ON_ITS_WAY_US = 60 * SECOND_US
"""A decision that others of its writer overtook by more than this is missing."""

_log = logger(__name__)


class _Timed(BaseModel):
    event_time: Utc


class _Accepted(BaseModel):
    """Of an accepted event its time alone: a few microseconds a record, so that every one can be read."""

    event: _Timed


class Observations:
    """Everything read so far, in bounded memory. Reading a record twice changes nothing: of each partition only
    what lies beyond the highest offset read is taken in.

    `recent` holds the newest decisions, one for each event. Whoever is erased is gone from it and from the ledger as
    soon as that is read, before or after what was about them; the counts stay.

    `parity` is the newest report; `account` is of the decisions that serving answered.
    """

    def __init__(self, usecase: UseCase, key: EraseKey, *, window: int, capacity: int) -> None:
        self.ledger = Ledger(usecase.label.maturity_us, capacity)
        self.recent: deque[DecisionLogged] = deque(maxlen=window)
        self.runs: deque[TrainingFinished] = deque(maxlen=_RUNS_KEPT)
        self.parity: ParityReport | None = None
        self.account = Reconciliation(patience_us=_ON_ITS_WAY_US)
        self.decisions = 0
        self.arms = Arms()
        self.shadows = Shadows()
        self.counts: Counter[str] = Counter()
        self._ends: dict[tuple[str, int], int] = {}
        self.erasures = Erasures(key)
        self._usecase = usecase
        self._unit = unit_entity(usecase)
        self._named_in_label = named_in(usecase, usecase.label.event)
        self._requests = event_topic(usecase.name, usecase.request.event_name).name
        self._decisions = decisions_topic(usecase.name).name
        self._readers = {
            self._requests: self._read_request,
            event_topic(usecase.name, usecase.label.event.event_name).name: self._read_label,
            self._decisions: self._read_decision,
            shadow_topic(usecase.name).name: self._read_shadow,
            training_results_topic(usecase.name).name: self._read_run,
            erasures_topic(usecase.name).name: self._read_erasure,
            parity_topic(usecase.name).name: self._read_parity,
        }

    @property
    def topics(self) -> tuple[str, ...]:
        """Names of the topics to read."""
        return tuple(self._readers)

    @property
    def events(self) -> int:
        """Request events in the log."""
        return sum(end for (topic, _), end in self._ends.items() if topic == self._requests)

    def read(self, records: Iterable[Record]) -> None:
        """Takes records in; one that cannot be read is counted and logged, never fatal."""
        for record in records:
            if not self._is_new(record):
                continue
            try:
                self._readers[record.topic](record)
            except (ValidationError, ValueError, KeyError) as error:
                self.counts["unreadable"] += 1
                _log.warning(
                    "record_unreadable",
                    topic=record.topic,
                    partition=record.partition,
                    offset=record.offset,
                    error=type(error).__name__,
                )

    def _is_new(self, record: Record) -> bool:
        # The group never commits, so a rebalance gives every record again.
        partition = (record.topic, record.partition)
        known = self._ends.get(partition)
        if known is not None and record.offset < known:
            return False
        if known is None and record.offset > 0 and record.topic == self._decisions:
            self.account.truncated = True
        self._ends[partition] = record.offset + 1
        return True

    def _read_request(self, record: Record) -> None:
        self.ledger.advance(to_us(_Accepted.model_validate_json(record.value).event.event_time))

    def _read_label(self, record: Record) -> None:
        envelope = Envelope.from_bytes(record.value)
        if self.erasures.covers_event(self._named_in_label, envelope.event, to_us(envelope.ingest_time)):
            self.counts["erased"] += 1
            return
        event = self._usecase.label.event.model_validate(envelope.event, strict=False)
        self.ledger.label(str(getattr(event, self._usecase.label.joins)), event.event_time_us)
        self.counts["labels"] += 1

    def _read_decision(self, record: Record) -> None:
        numbered = Numbered.model_validate_json(record.value)
        if numbered.writer:
            at_us = to_us(numbered.decided_at)
            number, lost = numbered.sequence, numbered.lost_before
            if self.account.take(numbered.writer, number, lost=lost, at_us=at_us):
                for each in numbered.unanswered:
                    self.arms.add_unanswered(each, numbered.writer)
        for place, logged in enumerate(decisions_of(record.value, ranks=self._usecase.ranks)):
            # The candidates of a ranking are scored, or fail, together: all of them say no more of a model than one.
            if self._take(logged) and place == 0:
                self.arms.add(logged, self._pseudonym(logged.unit))

    def _take(self, logged: DecisionLogged) -> bool:
        """Whether it is one that was not known yet, and of nobody who was erased."""
        if not math.isfinite(logged.score) or not math.isfinite(logged.value):
            raise ValueError("score and value must be finite")
        if len(logged.features) != len(logged.feature_names):
            raise ValueError("every feature needs its name")
        if self._is_erased(logged):
            self.counts["erased"] += 1
            return False
        if not self.ledger.decide(_decided(logged, self._pseudonym(logged.unit))):
            self.counts["repeats"] += 1
            return False
        self.decisions += 1
        self.recent.append(logged)
        return True

    def _read_shadow(self, record: Record) -> None:
        self.shadows.add(ShadowScored.model_validate_json(record.value))

    def _read_run(self, record: Record) -> None:
        run = TrainingFinished.model_validate_json(record.value)
        if all(known.request_id != run.request_id for known in self.runs):
            self.runs.append(run)

    def _read_erasure(self, record: Record) -> None:
        erased = Erased.model_validate_json(record.value)
        self.erasures = self.erasures.including([erased])
        if erased.entity == self._unit:
            kept = [logged for logged in self.recent if not self._is_erased(logged)]
            self.recent.clear()
            self.recent.extend(kept)
            self.ledger.forget(erased.pseudonym, to_us(erased.erased_at))
            self.arms.forget(erased.pseudonym)

    def _read_parity(self, record: Record) -> None:
        self.parity = ParityReport.model_validate_json(record.value)

    def _is_erased(self, logged: DecisionLogged) -> bool:
        return self._unit is not None and self.erasures.covers(self._unit, logged.unit, to_us(logged.decided_at))

    def _pseudonym(self, unit: str) -> str:
        # As the erasure names it: the ledger must find a unit without ever being told who it was.
        return self.erasures.key.pseudonym(self._unit, unit) if self._unit else unit


def _decided(logged: DecisionLogged, unit: str) -> Decided:
    return Decided(
        event_id=logged.event_id,
        event_time_us=to_us(logged.event_time),
        decided_at_us=to_us(logged.decided_at),
        unit=unit,
        challenger=logged.arm == Role.CHALLENGER,
        version=logged.model_version,
        score=logged.score,
        amount=logged.value,
        declined=logged.action == Action.DECLINE,
        stepped_up=logged.action == Action.STEP_UP,
        fallback=logged.fallback != Fallback.NONE,
        canary=logged.arm == Role.CANARY,
    )
