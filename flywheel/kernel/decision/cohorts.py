"""Which cases are decided together."""

from __future__ import annotations

from collections.abc import Sequence

from flywheel.kernel.decision.requests import Case

MAX_ROWS = 24
"""Rows decided together, but for a case that has more by itself. More make a decision no cheaper (CPU a row, with 300
trees, in µs: 8 rows 57, 16 rows 50, 24 rows 46, 32 rows 47), but each delays the first answer and whoever waits to be
read."""

_LEAST_SHARE = 0.75
"""Cases share a read when the most impatient has at least this part of the most patient one's time for it."""


def cohorts_of(cases: Sequence[Case], now_s: float) -> list[list[Case]]:
    """The cases in cohorts that answer together, those with no time left to read features apart from the others.

    Whoever has clearly less time than the others neither shortens theirs nor waits for them.
    """
    if len(cases) < 2:
        return [list(cases)] if cases else []
    times_s = [case.allowance.features_s(now_s) for case in cases]
    least_s = min(times_s)
    if least_s > 0 and least_s >= _LEAST_SHARE * max(times_s):
        return _bounded(cases)
    # Equal times keep the order in which they came.
    ordered = sorted(zip(times_s, range(len(cases)), strict=True), key=lambda each: -each[0])
    found: list[list[Case]] = []
    longest_s = ordered[0][0]
    for time_s, place in ordered:
        if not found or (time_s > 0) is not (longest_s > 0) or (time_s > 0 and time_s < _LEAST_SHARE * longest_s):
            found.append([])
            longest_s = time_s
        found[-1].append(cases[place])
    return [cohort for some in found for cohort in _bounded(some)]


def _bounded(cases: Sequence[Case]) -> list[list[Case]]:
    found: list[list[Case]] = []
    rows = MAX_ROWS
    for case in cases:
        rows += case.subject.rows
        if rows > MAX_ROWS:
            found.append([])
            rows = case.subject.rows
        found[-1].append(case)
    return found
