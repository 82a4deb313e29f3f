"""Two sides of a comparison, stretch by stretch and measure by measure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from loadtests import histogram
from loadtests.comparison.intervals import (
    Interval,
    Statistic,
    difference_of_pairs,
    difference_of_runs,
    ratio_of_pairs,
    ratio_of_runs,
)
from loadtests.failures import CannotTest
from loadtests.report.curves import seconds_of
from loadtests.result import Result, StretchResult

_IN_TIME, _REFUSED, _FAILED, _ASKED = range(4)
_BEFORE_BUCKETS = 4
_RATES_ALIKE = 0.02
_ENOUGH_BEYOND = 10


@dataclass(frozen=True)
class Row:
    """One measure of one stretch."""

    stretch: str
    measure: str
    is_ratio: bool
    """Whether the interval is of B over A, or else of B less A."""
    lower_is_better: bool
    a: float
    b: float
    interval: Interval

    @property
    def verdict(self) -> str:
        """`better`, `worse`, `no difference shown` or `too few to say`."""
        nothing = 1.0 if self.is_ratio else 0.0
        if not isfinite(self.interval.estimate):
            return "too few to say"
        if not isfinite(self.interval.low) or not self.interval.excludes(nothing):
            return "no difference shown"
        return "better" if (self.interval.estimate < nothing) == self.lower_is_better else "worse"


@dataclass(frozen=True)
class Comparison:
    """A and B."""

    a: Sequence[Result]
    b: Sequence[Result]
    rows: Sequence[Row]
    method: str
    doubts: Sequence[str]


@dataclass(frozen=True)
class _Measure:
    name: str
    is_ratio: bool
    lower_is_better: bool
    statistic: Callable[[NDArray[np.float64]], Statistic]
    """Given what the latencies of each column after the first ones are taken for."""
    needs: float = 0.0
    """Answers, of each side, below which nothing is said: a percentile rests on those beyond it."""


def _percentile(at: float) -> Callable[[NDArray[np.float64]], Statistic]:
    def of(middles_ms: NDArray[np.float64]) -> Statistic:
        def percentile(counts: NDArray[np.float64]) -> NDArray[np.float64]:
            cumulative = np.cumsum(counts[:, _BEFORE_BUCKETS:], axis=1)
            wanted = np.maximum(cumulative[:, -1:] * at / 100, 1e-9)
            values = middles_ms[np.argmax(cumulative >= wanted, axis=1)]
            return np.where(cumulative[:, -1] > 0, values, np.nan)

        return percentile

    return of


def _share(column: int) -> Callable[[NDArray[np.float64]], Statistic]:
    def of(middles_ms: NDArray[np.float64]) -> Statistic:
        del middles_ms
        return lambda counts: counts[:, column] / np.maximum(counts[:, _ASKED], 1)

    return of


_MEASURES = (
    _Measure("answered_p50_ms", True, True, _percentile(50), _ENOUGH_BEYOND / 0.5),
    _Measure("answered_p90_ms", True, True, _percentile(90), _ENOUGH_BEYOND / 0.1),
    _Measure("answered_p99_ms", True, True, _percentile(99), _ENOUGH_BEYOND / 0.01),
    _Measure("answered_p999_ms", True, True, _percentile(99.9), _ENOUGH_BEYOND / 0.001),
    _Measure("goodput_share", False, False, _share(_IN_TIME)),
    _Measure("refused_share", False, True, _share(_REFUSED)),
    _Measure("failed_share", False, True, _share(_FAILED)),
)


def compare(a: Sequence[Result], b: Sequence[Result], seed: int = 1) -> Comparison:
    """Two results, or as many of each that were made in pairs. Raises CannotTest when they asked different things."""
    first_a, first_b = a[0], b[0]
    if first_a.scenario != first_b.scenario or first_a.usecase != first_b.usecase:
        raise CannotTest(
            f"A is {first_a.scenario} of {first_a.usecase}, B is {first_b.scenario} of {first_b.usecase}: "
            "only results of the same scenario and use case can be compared"
        )
    rows: list[Row] = []
    doubts: list[str] = []
    for stretch in first_a.stretches:
        if not stretch.measured:
            continue
        sound, doubt = _sound(stretch.name, a, b)
        if doubt:
            doubts.append(f"{stretch.name}: {doubt}")
        if sound:
            rows += _rows(stretch.name, [each for each, _ in sound], [each for _, each in sound], seed)
    if not rows:
        raise CannotTest("There is nothing to compare: " + "; ".join(doubts))
    pairs = len(a)
    method = (
        f"{pairs} pairs of runs in turns; 95 % intervals by Student's t on the pairs"
        if pairs > 1
        else "one run each; 95 % intervals by block bootstrap over seconds and Student's t, "
        "which do not know how much one run differs from the next"
    )
    return Comparison(a, b, rows, method, doubts)


def _sound(name: str, a: Sequence[Result], b: Sequence[Result]) -> tuple[list[tuple[Result, Result]], str]:
    """The pairs that say something about a stretch, and why others do not."""
    found = [stretch for result in (*a, *b) for stretch in result.stretches if stretch.name == name]
    if len(found) < len(a) + len(b):
        return [], "only one side has it"
    rates = [each.asked_per_s for each in found]
    if max(rates) > min(rates) * (1 + _RATES_ALIKE):
        wanted = f"give both the same: CAPACITY={a[0].capacity_per_s:g}"
        return [], f"asked at {min(rates):,.0f}/s and {max(rates):,.0f}/s; {wanted}"
    traffic = a[0].traffic[0].name
    voids = [[each.stretch(name).of(traffic).void for each in pair] for pair in zip(a, b, strict=True)]
    sound = [pair for pair, void in zip(zip(a, b, strict=True), voids, strict=True) if not any(void)]
    why = next((each for void in voids for each in void if each), "")
    if len(a) > 1 and len(sound) < 2:
        sound = []
    if len(a) == 1:
        return sound, f"void ({why})" if why else ""
    return sound, f"{len(a) - len(sound)} of {len(a)} pairs left out as void ({why})" if why else ""


def _rows(stretch: str, a: Sequence[Result], b: Sequence[Result], seed: int) -> list[Row]:
    counts_a, counts_b = ([_counts(each, each.stretch(stretch)) for each in side] for side in (a, b))
    seen = np.any([each.any(axis=0) for each in (*counts_a, *counts_b)], axis=0)
    seen[: _BEFORE_BUCKETS + 1] = True
    middles_ms = histogram.MIDDLES_MS[seen[_BEFORE_BUCKETS:]]
    kept_a, kept_b = ([each[:, seen] for each in side] for side in (counts_a, counts_b))
    return [_row(measure, measure.statistic(middles_ms), stretch, kept_a, kept_b, seed) for measure in _MEASURES]


def _row(
    measure: _Measure,
    statistic: Statistic,
    stretch: str,
    a: Sequence[NDArray[np.float64]],
    b: Sequence[NDArray[np.float64]],
    seed: int,
) -> Row:
    whole_a, whole_b = ([_whole(statistic, each) for each in side] for side in (a, b))
    if min(each[:, _BEFORE_BUCKETS:].sum() for each in (*a, *b)) < measure.needs:
        interval = _unknown()
    elif len(a) > 1:
        of_pairs = ratio_of_pairs if measure.is_ratio else difference_of_pairs
        interval = of_pairs(whole_a, whole_b)
    else:
        of_runs = ratio_of_runs if measure.is_ratio else difference_of_runs
        interval = of_runs(a[0], b[0], statistic, seed)
    return Row(
        stretch,
        measure.name,
        measure.is_ratio,
        measure.lower_is_better,
        float(np.mean(whole_a)),
        float(np.mean(whole_b)),
        interval,
    )


def _whole(statistic: Statistic, counts: NDArray[np.float64]) -> float:
    return float(statistic(counts.sum(axis=0, keepdims=True))[0])


def _counts(result: Result, stretch: StretchResult) -> NDArray[np.float64]:
    """By second: in time, refused, failed, asked, and then latencies by bucket."""
    seconds = seconds_of(result.traffic[0], stretch)
    counts = np.zeros((len(seconds), _BEFORE_BUCKETS + histogram.BUCKETS))
    for row, second in enumerate(seconds):
        asked = second.good + second.degraded + second.refused + second.failed
        counts[row, :_BEFORE_BUCKETS] = second.in_time, second.refused, second.failed, asked
        for bucket, number in second.latencies.items():
            counts[row, _BEFORE_BUCKETS + bucket] = number
    return counts


def _unknown() -> Interval:
    return Interval(float("nan"), float("nan"), float("nan"))
