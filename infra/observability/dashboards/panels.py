"""What a dashboard is made of: rows of panels, each with queries over declared metrics.

A query is made from the metric's declaration, so its name, its labels and its unit are those that are scraped.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from prometheus_client import Gauge

from infra.observability.declared import Fact, Metric, fact

Kind = Literal["lines", "stacked", "number", "table"]
_UNITS = {"seconds": "s", "bytes": "bytes", "days": "d", "share": "percentunit", "cents": "suffix: ct"}
RANGE = "$__rate_interval"


class UndeclaredLabel(Exception):
    """A query uses a label that its metric does not have."""


@dataclass(frozen=True)
class Query:
    """A PromQL expression, how its series are called, and the unit of its values (as Grafana names units)."""

    expr: str
    legend: str
    unit: str = "short"


@dataclass(frozen=True)
class Panel:
    """A picture that answers one question. `warn` and `alarm`: from where on a value is orange or red; where `alarm` is
    the smaller of them, low values are the bad ones."""

    title: str
    meaning: str
    queries: tuple[Query, ...]
    kind: Kind = "lines"
    width: int = 8
    warn: float | None = None
    alarm: float | None = None
    unit: str = ""
    most: float | None = None

    @property
    def shown_unit(self) -> str:
        """Its own unit, or that of its first query."""
        return self.unit or self.queries[0].unit


@dataclass(frozen=True)
class Row:
    """Panels that belong together, under a title."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Dashboard:
    """A page. `name` is its file and its address."""

    name: str
    title: str
    question: str
    rows: tuple[Row, ...] = field(default=())

    @property
    def panels(self) -> tuple[Panel, ...]:
        """All its panels."""
        return tuple(panel for row in self.rows for panel in row.panels)


def rate(metric: Metric, *, by: str = "", where: str = "", legend: str = "", unit: str = "") -> Query:
    """How often a second a counter counts; of a histogram, how many it measures."""
    declared = fact(metric)
    name = f"{declared.name}_count" if declared.kind == "histogram" else declared.name
    labels = _split(by)
    expr = f"sum{_by(labels)} (rate({name}{_selector(declared, where, labels)}[{RANGE}]))"
    return Query(expr, legend or _legend(labels), unit or "cps")


def share(metric: Metric, bad: str, *, by: str = "", legend: str = "") -> Query:
    """Which part of what a counter counts has those label values, 0 where it counts and none has."""
    declared = fact(metric)
    labels = _split(by)
    every = f"sum{_by(labels)} (rate({declared.name}{_selector(declared, '', labels)}[{RANGE}]))"
    some = f"sum{_by(labels)} (rate({declared.name}{_selector(declared, bad, labels)}[{RANGE}]))"
    return Query(f"({some} or 0 * {every}) / ({every} > 0)", legend or _legend(labels), "percentunit")


def quantile(metric: Metric, q: float, *, by: str = "", where: str = "", legend: str = "") -> Query:
    """That quantile of a histogram, as its buckets tell it."""
    declared = fact(metric)
    labels = _split(by)
    inner = f"sum{_by((*labels, 'le'))} (rate({declared.name}_bucket{_selector(declared, where, labels)}[{RANGE}]))"
    told = " ".join(part for part in (_legend(labels), f"p{q * 100:g}") if part)
    return Query(f"histogram_quantile({q:g}, {inner})", legend or told, _unit(declared))


def value(metric: Gauge, *, by: str = "", where: str = "", how: str = "max", legend: str = "") -> Query:
    """What a gauge says; of several processes the largest, or what `how` makes of them."""
    declared = fact(metric)
    labels = _split(by)
    expr = f"{how}{_by(labels)} ({declared.name}{_selector(declared, where, labels)})"
    return Query(expr, legend or _legend(labels), _unit(declared))


def _split(by: str) -> tuple[str, ...]:
    return tuple(by.split())


def _selector(declared: Fact, where: str, by: Iterable[str]) -> str:
    """The label matchers: what is asked for, and the chosen use case wherever the metric knows one."""
    named = [part.partition("=")[0].rstrip("!~") for part in where.split(",") if "=" in part]
    if unknown := {*named, *by} - {*declared.labels}:
        raise UndeclaredLabel(f"{declared.name} has no label {', '.join(sorted(unknown))}")
    chosen = 'usecase=~"$usecase"' if "usecase" in declared.labels else ""
    matchers = ",".join(part for part in (chosen, where) if part)
    return f"{{{matchers}}}" if matchers else ""


def _by(labels: tuple[str, ...]) -> str:
    return f" by ({', '.join(labels)})" if labels else ""


def _legend(labels: tuple[str, ...]) -> str:
    return " ".join(f"{{{{{label}}}}}" for label in labels)


def _unit(declared: Fact) -> str:
    return _UNITS.get(declared.unit, "short")
