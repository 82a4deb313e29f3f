"""Scales of a plot: from values to places, with ticks at round values."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import ceil, floor, isfinite, log10


@dataclass(frozen=True)
class Axis:
    """Values from `low` to `high`; logarithmic or not."""

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    logarithmic: bool = False

    def share(self, value: float) -> float:
        """Where a value lies between the ends, 0 to 1; beyond them at the nearer end."""
        value = min(max(value, self.low), self.high)
        if self.logarithmic:
            return log10(value / self.low) / log10(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def linear(values: Iterable[float], label: Callable[[float], str], *, most_ticks: int = 5) -> Axis:
    """From zero to a round value that is no less than any.

    >>> [text for _, text in linear([3.0, 8.0], "{:g}".format).ticks]
    ['0', '2', '4', '6', '8']
    """
    largest = max((value for value in values if isfinite(value)), default=0.0) or 1.0
    step = _round_step(largest / most_ticks)
    count = ceil(largest / step - 1e-9)
    return Axis(0.0, count * step, tuple((place * step, label(place * step)) for place in range(count + 1)))


def logarithmic(values: Iterable[float], label: Callable[[float], str]) -> Axis:
    """Whole decades around the values, which must be positive to count.

    >>> [text for _, text in logarithmic([0.4, 30.0], "{:g}".format).ticks]
    ['0.1', '1', '10', '100']
    """
    found = [value for value in values if isfinite(value) and value > 0] or [1.0]
    low, high = floor(log10(min(found)) + 1e-9), ceil(log10(max(found)) - 1e-9)
    high = max(high, low + 1)
    return Axis(10.0**low, 10.0**high, tuple((10.0**at, label(10.0**at)) for at in range(low, high + 1)), True)


def seconds(end_s: float) -> Axis:
    """Time from a test's begin; in minutes where it is long."""
    in_minutes = end_s > 300
    unit_s = 60.0 if in_minutes else 1.0
    step_s = _round_step(end_s / unit_s / 6) * unit_s
    ticks = [place * step_s for place in range(int(end_s / step_s) + 1)]
    name = "min" if in_minutes else "s"
    return Axis(0.0, end_s, tuple((at, f"{at / unit_s:g} {name}") for at in ticks))


def _round_step(least: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is no less.

    >>> _round_step(0.3), _round_step(7.0), _round_step(20.0)
    (0.5, 10.0, 20.0)
    """
    power = 10.0 ** floor(log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))
