"""The declared metrics as facts: name, kind, meaning, unit, labels, and the names of the series they expose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from prometheus_client import Counter, Gauge, Histogram

from flywheel.contracts import metrics

Metric = Counter | Gauge | Histogram

_UNITS = ("seconds", "bytes", "cents", "days", "share", "p_value")
_SERIES = {"counter": ("",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
_PREFIX = "flywheel_"


@dataclass(frozen=True)
class Fact:
    """One metric. `name` is as it is scraped, a counter's with `_total`; `unit` is empty for plain numbers."""

    name: str
    kind: str
    meaning: str
    labels: tuple[str, ...]

    @property
    def unit(self) -> str:
        """The unit that the name ends with."""
        plain = self.name.removesuffix("_total")
        return next((unit for unit in _UNITS if plain.endswith(f"_{unit}")), "")

    @property
    def part(self) -> str:
        """Who it is about: the word after the platform's."""
        return self.name.removeprefix(_PREFIX).partition("_")[0]

    def series(self) -> dict[str, frozenset[str]]:
        """Names of what Prometheus stores, each with its labels."""
        labels = frozenset(self.labels)
        return {
            f"{self.name}{suffix}": labels | {"le"} if suffix == "_bucket" else labels for suffix in _SERIES[self.kind]
        }


def fact(metric: Metric) -> Fact:
    """What is declared of a metric."""
    (family,) = metric.describe()
    name = f"{family.name}_total" if family.type == "counter" else family.name
    return Fact(name, family.type, family.documentation, tuple(metric._labelnames))


@cache
def facts() -> Mapping[str, Fact]:
    """All of them by name, in the order of their declaration."""
    found = (fact(value) for value in vars(metrics).values() if isinstance(value, Metric))
    return {each.name: each for each in found}


def series() -> dict[str, frozenset[str]]:
    """Everything that Prometheus stores of the platform's metrics, by name, with its labels."""
    return {name: labels for each in facts().values() for name, labels in each.series().items()}
