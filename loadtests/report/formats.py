"""Numbers as people read them."""

from __future__ import annotations

from math import isinf, isnan

_DASH = "–"


def ms(value: float) -> str:
    """
    >>> ms(1.234), ms(45.67), ms(1234.5), ms(float("inf"))
    ('1.23', '45.7', '1,234', '∞')
    """
    if isnan(value):
        return _DASH
    if isinf(value):
        return "∞"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def count(value: float) -> str:
    """
    >>> count(12345.6)
    '12,346'
    """
    return _DASH if isnan(value) else "∞" if isinf(value) else f"{value:,.0f}"


def share(value: float) -> str:
    """
    >>> share(0.0), share(0.0123), share(1.0), share(0.00004)
    ('0 %', '1.2 %', '100 %', '<0.1 %')
    """
    if isnan(value):
        return _DASH
    if 0 < value < 0.001:
        return "<0.1 %"
    return f"{value:.0%}".replace("%", " %") if value in (0, 1) else f"{value * 100:.1f} %"


def amount(measure: str, value: float) -> str:
    """A measure's value with what its name says of its unit."""
    if measure.endswith("_ms"):
        return f"{ms(value)} ms"
    if measure.endswith("_share") or measure.endswith("_of_peak"):
        return share(value)
    if measure.endswith("_s"):
        return f"{count(value)}/s" if measure.endswith("_per_s") else f"{_seconds(value)}"
    if measure.endswith("_mib"):
        return f"{value:,.1f} MiB" if not isnan(value) else _DASH
    return count(value)


def _seconds(value: float) -> str:
    return _DASH if isnan(value) else f"{value:.1f} s"
