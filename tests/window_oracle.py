"""A window by its definition: a loop over the raw events. What every engine is held to."""

from __future__ import annotations

from collections.abc import Iterable

from flywheel.kernel.features import Statistic, WindowedFeature


def window_value(feature: WindowedFeature, events: Iterable[tuple[int, float]], at_us: int) -> float:
    """The feature at a moment, over (time in microseconds, amount) of all events of its own kind and entity."""
    floor = at_us // feature.step_us * feature.step_us
    low = floor - feature.delay_us - feature.window_us
    high = floor - feature.delay_us if feature.delay_us else at_us + 1
    amounts = [amount for time_us, amount in events if low <= time_us < high]
    match feature.statistic:
        case Statistic.COUNT:
            return float(len(amounts))
        case Statistic.SUM:
            return float(sum(amounts))
        case Statistic.MEAN:
            return sum(amounts) / len(amounts) if amounts else feature.default
        case Statistic.MIN:
            return float(min(amounts, default=feature.default))
        case Statistic.MAX:
            return float(max(amounts, default=feature.default))
