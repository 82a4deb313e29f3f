"""Metrics of answered decisions: each series is looked up once, and counted once for all that are answered together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from prometheus_client import Counter

from flywheel.contracts.metrics import (
    SERVING_ATTRIBUTE_AGE_SECONDS,
    SERVING_DECISIONS,
    SERVING_FEATURE_LAG_SECONDS,
    SERVING_FEATURE_STATUS,
    SERVING_SECONDS,
    SERVING_STAGE_SECONDS,
)
from flywheel.kernel.decision import Answered, Decided

STAGES = ("queue", "features", "model", "policy")

_Key = tuple[str, ...]


class DecisionCounts:
    """The metrics of one use case."""

    def __init__(self, usecase: str) -> None:
        self._usecase = usecase
        self._seconds = SERVING_SECONDS.labels(usecase)
        self._stages = [(stage, SERVING_STAGE_SECONDS.labels(usecase, stage)) for stage in STAGES]
        self._lag_seconds = SERVING_FEATURE_LAG_SECONDS.labels(usecase)
        self._outcomes = _Series(SERVING_DECISIONS, usecase)
        self._statuses = _Series(SERVING_FEATURE_STATUS, usecase)

    def decided(self, decisions: Sequence[Decided]) -> None:
        """Counts decisions."""
        self.answered(decisions)
        self.ended([(each.action, each.case.arm, each.case.why) for each in decisions])
        self._statuses.add([item for each in decisions for item in each.feature_status.items()])
        self.aged(decisions[-1].feature_age_ms)

    def ended(self, outcomes: Iterable[tuple[str, str, str]]) -> None:
        """Counts how decisions ended: action, arm and fallback of each."""
        self._outcomes.add(outcomes)

    def read(self, source: str, statuses: Mapping[str, int]) -> None:
        """Counts of how many rows what is read from a source had which status."""
        for status, rows in statuses.items():
            self._statuses.count((source, status), rows)

    def answered(self, answers: Sequence[Answered]) -> None:
        """Times answers of any kind."""
        stages_ms = [answer.stage_ms for answer in answers]
        self._seconds.observe_all([each["total"] / 1000 for each in stages_ms])
        for stage, seconds in self._stages:
            seconds.observe_all([each[stage] / 1000 for each in stages_ms])
        lag_ms = answers[-1].hydrated.lag_ms
        if lag_ms >= 0:
            self._lag_seconds.set(lag_ms / 1000)

    def aged(self, ages_ms: Mapping[str, float]) -> None:
        """Tells how old loads are, by table, milliseconds."""
        for table, age_ms in ages_ms.items():
            SERVING_ATTRIBUTE_AGE_SECONDS.labels(self._usecase, table).set(age_ms / 1000)


class _Series:
    """Counters of one metric by the labels after the use case."""

    def __init__(self, metric: Counter, usecase: str) -> None:
        self._metric = metric
        self._usecase = usecase
        self._children: dict[_Key, Counter] = {}

    def add(self, keys: Iterable[_Key]) -> None:
        """Counts each key once for every time it comes."""
        numbers: dict[_Key, int] = {}
        for key in keys:
            numbers[key] = numbers.get(key, 0) + 1
        for key, number in numbers.items():
            self.count(key, number)

    def count(self, key: _Key, number: int) -> None:
        """Counts a key so many times."""
        child = self._children.get(key)
        if child is None:
            # Values are declared ones, so there are as many children as the metric has series.
            child = self._children[key] = self._metric.labels(self._usecase, *key)
        child.inc(number)
