"""Says in a sentence what a feature is, from its declaration."""

from __future__ import annotations

from collections.abc import Sequence

from flywheel.kernel.durations import duration_text
from flywheel.kernel.features import (
    EXACT_US,
    AttributeFeature,
    Feature,
    RequestFeature,
    Statistic,
    WindowedFeature,
)
from flywheel.kernel.fields import REQUEST, REQUEST_TIME

_OF_FIELD = {
    Statistic.SUM: "total {}",
    Statistic.MEAN: "mean {}",
    Statistic.MIN: "smallest {}",
    Statistic.MAX: "largest {}",
    Statistic.VARIANCE: "variance of the {}",
    Statistic.STDDEV: "standard deviation of the {}",
    Statistic.DISTINCT: "number of different values of {}",
    Statistic.FIRST: "{} of the first",
    Statistic.LAST: "{} of the {} last",
}
_OF_EVENTS = {Statistic.COUNT: "count", Statistic.SINCE_LAST: "time (s) since the last", Statistic.DECAYED: "count"}
_ORDINALS = {1: "", 2: "2nd", 3: "3rd"}
_UNITS = {"cents", "ms", "s", "us", "bytes", "km", "percent"}


def meaning_of(feature: Feature) -> str:
    """A sentence that says what the feature is: the declared meaning, of a windowed feature with its window.

    >>> from usecases.fraud import usecase
    >>> meanings = {feature.name: meaning_of(feature) for feature in usecase.features}
    >>> meanings["card_transaction_count_24h"]
    'Count of transactions of the card over 24 h, in steps of 1 min'
    >>> meanings["terminal_transaction_amount_cents_mean_7d"]
    'Mean amount (cents) of transactions of the terminal over 7 d, in steps of 1 h'
    >>> meanings["terminal_transaction_count_30d_delayed_7d"]
    'Count of transactions of the terminal over 30 d that ended 7 d earlier, in steps of 1 d'
    """
    if isinstance(feature, RequestFeature):
        inputs = _listed([_input_text(name) for name in feature.inputs])
        return feature.meaning or f"Computed at the request from {inputs}"
    if isinstance(feature, AttributeFeature):
        return feature.meaning or _capital(f"{field_text(feature.column)} of the {_spaced(feature.entity.name)}")
    return f"{_capital(feature.meaning or _statistic_text(feature))} {_window_text(feature)}"


def conditions_text(feature: WindowedFeature) -> str:
    """Which of the events are counted; empty where all are."""
    return " and ".join(map(str, feature.conditions))


def field_text(name: str) -> str:
    """A field's name in words, its unit told as such.

    >>> field_text("amount_cents"), field_text("card_id")
    ('amount (cents)', 'card id')
    """
    *words, last = name.split("_")
    return f"{' '.join(words)} ({last})" if words and last in _UNITS else _spaced(name)


def length_text(us: int) -> str:
    """The length of a step or of a delay: a day is a day."""
    return duration_text(us, days_from=1)


def _statistic_text(feature: WindowedFeature) -> str:
    which = f" with {conditions_text(feature)}" if feature.conditions else ""
    decay = f" that halve every {length_text(feature.half_life_us)}" if feature.half_life_us else ""
    role = "" if feature.key_fields == feature.entity.keys else f" as {_listed(feature.key_fields)}"
    events = f"{_events_text(feature)}{which}{decay} of the {_spaced(feature.entity.name)}{role}"
    if feature.field is None:
        return f"{_OF_EVENTS[feature.statistic]} {events if _is_single(feature) else f'of {events}'}"
    rank = _ORDINALS.get(feature.rank, f"{feature.rank}th")
    said = " ".join(_OF_FIELD[feature.statistic].format(field_text(feature.field), rank).split())
    return f"{said} {events if _is_single(feature) else f'of {events}'}"


def _is_single(feature: WindowedFeature) -> bool:
    return feature.statistic in (Statistic.FIRST, Statistic.LAST, Statistic.SINCE_LAST)


def _events_text(feature: WindowedFeature) -> str:
    noun = _spaced(feature.event.event_name)
    return noun if _is_single(feature) else _plural(noun)


def _window_text(feature: WindowedFeature) -> str:
    delay = f" that ended {length_text(feature.delay_us)} earlier" if feature.delay_us else ""
    step = step_text(feature)
    return f"over {duration_text(feature.window_us)}{delay}, {f'in steps of {step}' if step else 'exact to the event'}"


def step_text(feature: WindowedFeature) -> str:
    """The step in which the window's tail moves; empty where it is exact to the event."""
    return "" if feature.step_us == EXACT_US else length_text(feature.step_us)


def _input_text(name: str) -> str:
    if not name.startswith(REQUEST):
        return name
    return "its time" if name == REQUEST_TIME else f"its {field_text(name.removeprefix(REQUEST))}"


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def _spaced(name: str) -> str:
    return name.replace("_", " ")


def _plural(noun: str) -> str:
    """
    >>> _plural("transaction"), _plural("delivery"), _plural("search"), _plural("display")
    ('transactions', 'deliveries', 'searches', 'displays')
    """
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}es" if noun.endswith(("s", "x", "z", "ch", "sh")) else f"{noun}s"


def _listed(parts: Sequence[str]) -> str:
    """
    >>> _listed(["a"]), _listed(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))
