"""The metrics of several processes that do one work, as one: counts are summed, measures are told apart."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

_COUNTED = frozenset({"counter", "histogram", "summary"})
Expositions = Callable[[], Mapping[str, str]]
"""The text of each process's metrics, by its name."""


class MergedMetrics(Collector):
    """Counters and histograms as sums over all processes, those that ended included; gauges labelled with `worker`.

    `own` is what this process counts itself.
    """

    def __init__(self, expositions: Expositions, own: Sequence[Collector] = ()) -> None:
        self._expositions = expositions
        self._own = own
        self._ended = _Sums()
        self._changes = 0

    def retire(self, exposition: str) -> None:
        """Remembers what a process that ended has counted, so that no sum ever falls. It must not be told again."""
        ended = _Sums()
        ended.add(self._ended.metrics())
        ended.add(text_string_to_metric_families(exposition))
        # Replaced whole: metrics are collected in another thread.
        self._ended = ended
        self._changes += 1

    def collect(self) -> Iterable[Metric]:
        """The metrics of this moment."""
        while True:
            changes = self._changes
            metrics = self._collected()
            # A process that ended meanwhile would be counted twice or not at all.
            if changes == self._changes:
                return metrics

    def _collected(self) -> list[Metric]:
        sums = _Sums()
        sums.add(self._ended.metrics())
        for counted in self._own:
            sums.add(counted.collect())
        gauges: dict[str, Metric] = {}
        for worker, exposition in self._expositions().items():
            families = list(text_string_to_metric_families(exposition))
            sums.add(families)
            for family in families:
                if family.type not in _COUNTED and not family.name.endswith("_created"):
                    told = gauges.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                    told.samples += [_labelled(sample, worker) for sample in family.samples]
        return [*sums.metrics(), *gauges.values()]


class _Sums:
    """Families of counted metrics, added up sample by sample."""

    def __init__(self) -> None:
        self._families: dict[str, Metric] = {}
        self._samples: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}

    def add(self, families: Iterable[Metric]) -> None:
        for family in families:
            if family.type in _COUNTED:
                self._families.setdefault(family.name, family)
                sums = self._samples.setdefault(family.name, {})
                for sample in family.samples:
                    key = (sample.name, tuple(sample.labels.items()))
                    sums[key] = sums.get(key, 0.0) + sample.value

    def metrics(self) -> list[Metric]:
        found = []
        for name, family in self._families.items():
            metric = Metric(name, family.documentation, family.type)
            metric.samples = [
                Sample(name, dict(labels), value) for (name, labels), value in self._samples[name].items()
            ]
            found.append(metric)
        return found


def _labelled(sample: Sample, worker: str) -> Sample:
    return Sample(sample.name, {**sample.labels, "worker": worker}, sample.value)
