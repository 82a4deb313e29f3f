"""Takes events in: validates, seals, appends to the log, and tells of each what became of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from flywheel.adapters.http_problem import FieldError
from flywheel.adapters.logs import logger
from flywheel.contracts.events import EPOCH, Envelope, Event
from flywheel.contracts.metrics import INGEST_EVENTS
from flywheel.contracts.topics import event_topic
from flywheel.kernel.ports import EventLog
from services.ingest.event_clock import EventClock
from services.ingest.validation import EventSchema, InvalidEvent

_SLICE = 500
_TELL_EVERY = timedelta(seconds=1)

_log = logger(__name__)


class Status(StrEnum):
    """What became of an event: durable; refused for good; or not known to be durable, so to be sent again."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one event. `event_id` is None when it could not be read."""

    status: Status
    event_id: str | None
    errors: tuple[FieldError, ...] = ()


class Intake:
    """The door for one kind of event; `clock` is the one that all events of the use case share."""

    def __init__(
        self,
        usecase: str,
        event: type[Event],
        *,
        log: EventLog,
        clock: EventClock,
        max_event_bytes: int,
    ) -> None:
        self.usecase = usecase
        self.schema = EventSchema(event)
        self._topic = event_topic(usecase, event.event_name).name
        self._log = log
        self.clock = clock
        self._max_event_bytes = max_event_bytes
        self._told_at: dict[Status, datetime] = {}
        self._untold: Counter[Status] = Counter()
        self._counted = {
            Status.ACCEPTED: INGEST_EVENTS.labels(usecase, event.event_name, "accepted"),
            Status.REJECTED: INGEST_EVENTS.labels(usecase, event.event_name, "invalid"),
            Status.UNAVAILABLE: INGEST_EVENTS.labels(usecase, event.event_name, "unavailable"),
        }

    async def take(
        self, items: Sequence[object], request_id: str, *, backfilled: bool = False, trace: str = ""
    ) -> list[Outcome]:
        """One outcome per item, in order, once the broker acknowledged or failed to.

        Valid items reach each partition in the order given, after those of any call that has returned. `backfilled`
        ones are loaded after the fact, not as they happen; `trace` goes with them.
        """
        outcomes: list[Outcome | None] = [None] * len(items)
        records: list[tuple[bytes, bytes]] = []
        waiting: list[tuple[int, str]] = []
        if not self.clock.known:
            return [Outcome(Status.UNAVAILABLE, _claimed_id(item)) for item in items]
        now = self.clock.wall()
        seal = Envelope.sealer(ingest_time=now, request_id=request_id, backfilled=backfilled)
        for index, item in enumerate(items):
            if index and index % _SLICE == 0:
                # A large batch lets smaller requests through between its slices.
                await asyncio.sleep(0)
            try:
                event, record = self._prepare(item, now, seal)
            except InvalidEvent as invalid:
                outcomes[index] = Outcome(Status.REJECTED, _claimed_id(item), invalid.errors)
            else:
                waiting.append((index, event.event_id))
                records.append(record)
        failures = await self._log.append(self._topic, records, trace=trace) if records else []
        for (index, event_id), failure in zip(waiting, failures, strict=True):
            outcomes[index] = Outcome(Status.UNAVAILABLE if failure else Status.ACCEPTED, event_id)
        complete = [outcome for outcome in outcomes if outcome]
        self._account(complete, next((str(failure) for failure in failures if failure), ""), now)
        return complete

    def _prepare(
        self, item: object, now: datetime, seal: Callable[[Event], bytes]
    ) -> tuple[Event, tuple[bytes, bytes]]:
        event = self.schema.parse(item)
        value = seal(event)
        if len(value) > self._max_event_bytes:
            hint = f"at most {self._max_event_bytes} bytes are accepted"
            raise InvalidEvent((FieldError("", "The event is too large", hint),))
        self.clock.admit(event.event_time, now)
        return event, (str(getattr(event, event.partition_key)).encode(), value)

    def _account(self, outcomes: Sequence[Outcome], failure: str, now: datetime) -> None:
        for status, counter in self._counted.items():
            count = sum(outcome.status is status for outcome in outcomes)
            counter.inc(count)
            if count and status is not Status.ACCEPTED:
                self._tell(status, count, outcomes, failure, now)

    def _tell(self, status: Status, count: int, outcomes: Sequence[Outcome], failure: str, now: datetime) -> None:
        # A flood of bad events must not become a flood of lines: one a second, with the number since the last.
        self._untold[status] += count
        if now - self._told_at.get(status, EPOCH) < _TELL_EVERY:
            return
        self._told_at[status] = now
        event = self.schema.event
        error = next((outcome.errors[0] for outcome in outcomes if outcome.errors), None)
        field = ""
        if status is Status.REJECTED and error:
            # Declared names and reasons only: whatever else was sent may identify a person.
            field = error.field if error.field in event.model_fields else "(undeclared)"
            failure = error.reason
        _log.warning(
            f"events_{status.value}",
            usecase=self.usecase,
            event_name=event.event_name,
            count=self._untold.pop(status),
            field=field,
            reason=failure,
        )


def _claimed_id(item: object) -> str | None:
    found = item.get("event_id") if isinstance(item, dict) else None
    return found if isinstance(found, str) and len(found) <= 64 else None
