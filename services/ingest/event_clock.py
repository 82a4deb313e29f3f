"""Which event times can be true: nothing ahead of the wall clock, and in a played world nothing ahead of that world."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from flywheel.adapters.http_problem import FieldError
from flywheel.contracts.events import to_us
from flywheel.kernel.event_times import untrue
from services.ingest.validation import InvalidEvent


class EventClock:
    """The clock of one use case's stream.

    `wall` tells the time in UTC. `lateness` is None where the wall clock alone rules. Else the stream has a clock of
    its own, its newest event: one that lies further ahead of it than the lateness would make every other event late,
    so it is refused. Such a clock is not `known` until `restore` was called with what the log holds.
    """

    def __init__(self, wall: Callable[[], datetime], *, max_ahead: timedelta, lateness: timedelta | None) -> None:
        self._wall = wall
        self._max_ahead_us = max_ahead // timedelta(microseconds=1)
        self._lateness = lateness
        self._newest: datetime | None = None
        self.known = lateness is None

    @property
    def is_wall(self) -> bool:
        return self._lateness is None

    def wall(self) -> datetime:
        """The wall clock."""
        return self._wall()

    def now(self) -> datetime | None:
        """The stream's present; None before its first event."""
        return self._wall() if self.is_wall else self._newest

    def restore(self, event_times: Iterable[datetime]) -> None:
        """Continues from the newest events of the log."""
        self._newest = max(event_times, default=None)
        self.known = True

    def admit(self, event_time: datetime, wall_now: datetime) -> None:
        """Lets the time pass and moves the stream's clock on. Raises InvalidEvent."""
        wrong = untrue(to_us(event_time), to_us(wall_now), self._max_ahead_us)
        if wrong is not None:
            raise _refused(f"Input {wrong.reason}", wrong.hint)
        if self._lateness is None:
            return
        if self._newest is not None and event_time > self._newest + self._lateness:
            raise _refused(
                f"Input lies more than {_words(self._lateness)} ahead of the stream, "
                f"which is at {self._newest.isoformat()}",
                "use times near the stream's present (GET /v1/<usecase>/clock); "
                "`make replay … ARGS=--align` shifts a file's times to it; "
                "a stack without a world takes them as they are: `make up WORLD=off`",
            )
        self._newest = max(event_time, self._newest or event_time)


def _words(span: timedelta) -> str:
    """Such as `24 h`: whole units, the largest that fits."""
    seconds = round(span.total_seconds())
    for unit_s, unit in ((3_600, "h"), (60, "min")):
        if seconds % unit_s == 0:
            return f"{seconds // unit_s} {unit}"
    return f"{seconds} s"


def _refused(reason: str, hint: str) -> InvalidEvent:
    return InvalidEvent((FieldError("event_time", reason, hint),))
