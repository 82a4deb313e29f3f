"""Which event times can be true by the wall clock: one rule for accepted events and for what is asked about."""

from __future__ import annotations

from typing import NamedTuple

from flywheel.kernel.durations import MINUTE_US

MAX_AHEAD_US = 5 * MINUTE_US
"""A time this far ahead of the wall clock is that of another clock, and no further: windows would be cut wrongly."""


class Untrue(NamedTuple):
    """Why a time cannot be true, and what to look at."""

    reason: str
    hint: str


def untrue(event_time_us: int, now_us: int, max_ahead_us: int = MAX_AHEAD_US) -> Untrue | None:
    """What is wrong with an event time, as of now on the wall clock; None for nothing. Microseconds since 1970.

    >>> untrue(-1, 0).reason
    'lies before 1970'
    >>> untrue(MAX_AHEAD_US, 0) is None
    True
    """
    if event_time_us > now_us + max_ahead_us:
        return Untrue("lies ahead of the server's clock", "check your clock and time zone")
    if event_time_us < 0:
        return Untrue("lies before 1970", "check your clock and the order of the date's parts")
    return None
