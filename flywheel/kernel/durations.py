"""Durations as people write them: `60s`, `1h`, `30d`."""

from __future__ import annotations

import re

SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US

_UNITS = {"s": SECOND_US, "m": MINUTE_US, "h": HOUR_US, "d": DAY_US}
_PATTERN = re.compile(r"^([1-9][0-9]*)([smhd])$")


def parse_duration(text: str) -> int:
    """Microseconds of a duration such as `60s`, `5m`, `24h` or `30d`.

    Raises ValueError for anything else.

    >>> parse_duration("60s")
    60000000
    """
    match = _PATTERN.match(text)
    if match is None:
        raise ValueError(
            f"{text!r} is not a duration; write a whole number and one of s, m, h, d, such as '60s' or '30d'"
        )
    return int(match[1]) * _UNITS[match[2]]


def duration_text(us: int, *, days_from: int = 2) -> str:
    """A duration for people, in the largest unit of which it is a whole number; days only from `days_from` on.

    >>> duration_text(24 * HOUR_US), duration_text(7 * DAY_US), duration_text(DAY_US, days_from=1)
    ('24 h', '7 d', '1 d')
    >>> duration_text(90 * SECOND_US), duration_text(1_500)
    ('90 s', '0.0015 s')
    """
    for unit_us, name in ((DAY_US, "d"), (HOUR_US, "h"), (MINUTE_US, "min")):
        number, rest = divmod(us, unit_us)
        if not rest and number >= (days_from if unit_us == DAY_US else 1):
            return f"{number} {name}"
    return f"{us / SECOND_US:g} s"
