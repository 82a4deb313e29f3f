"""Says in a sentence what a feature is, from its declaration."""

from __future__ import annotations

from collections.abc import Sequence

from flywheel.kernel.durations import duration_text
from flywheel.kernel.features import Feature, RequestFeature, WindowedFeature

REQUEST = "request."
"""Begins the name of an input that is a field of the request."""
_REQUEST_TIME = "request.event_time_us"
_ADJECTIVES = {"sum": "total", "mean": "mean", "min": "smallest", "max": "largest"}
"""Statistics that stand before the field; any other one is said to be *of* it."""
_UNITS = {"cents", "ms", "s", "us", "bytes", "km", "percent"}


def meaning_of(feature: Feature) -> str:
    """A sentence that says what the feature is.

    >>> from usecases.fraud import usecase
    >>> meanings = {feature.name: meaning_of(feature) for feature in usecase.features}
    >>> meanings["card_transaction_count_24h"]
    'Count of transactions of the card over 24 h, in steps of 1 min'
    >>> meanings["terminal_transaction_amount_cents_mean_7d"]
    'Mean amount (cents) of transactions of the terminal over 7 d, in steps of 1 h'
    >>> meanings["terminal_transaction_count_30d_delayed_7d"]
    'Count of transactions of the terminal over 30 d that ended 7 d earlier, in steps of 1 d'
    >>> meanings["amount_vs_card_mean_30d"]
    'Computed at the request from its amount (cents) and card_transaction_amount_cents_mean_30d'
    """
    if isinstance(feature, RequestFeature):
        return f"Computed at the request from {_listed([_input_text(name) for name in feature.inputs])}"
    events = _plural(_spaced(feature.event.event_name))
    delay = f" that ended {length_text(feature.delay_us)} earlier" if feature.delay_us else ""
    return (
        f"{_statistic_text(feature)} of {events} of the {_spaced(feature.entity.name)} "
        f"over {duration_text(feature.window_us)}{delay}, {_step_text(feature)}"
    )


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
    if feature.field is None:
        return _spaced(feature.statistic).capitalize()
    adjective = _ADJECTIVES.get(feature.statistic)
    if adjective:
        return f"{adjective.capitalize()} {field_text(feature.field)}"
    return f"{_spaced(feature.statistic).capitalize()} of the {field_text(feature.field)}"


def _step_text(feature: WindowedFeature) -> str:
    return f"in steps of {length_text(feature.step_us)}" if feature.step_us else "exact to the event"


def _input_text(name: str) -> str:
    if not name.startswith(REQUEST):
        return name
    return "its time" if name == _REQUEST_TIME else f"its {field_text(name.removeprefix(REQUEST))}"


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
