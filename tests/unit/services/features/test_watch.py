"""What the watcher of the running service asks of the store, and how often."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from prometheus_client import REGISTRY

from services.features import watch
from services.features.bootstrap import FeaturesService
from services.features.stream import JobDied


class Store:
    def __init__(self, pause_s: float) -> None:
        self.counters_pause_s = pause_s
        self.asked = 0
        self.owner: str | None = "the stream"
        self.empty = False
        self.moved = 0
        """From the one place where it is counted to the other, as if the one had lost what the other counted anew."""

    def hand_over(self, source: str | None) -> None:
        self.owner = source

    def counters_by_place(self) -> dict[str, dict[str, int]]:
        self.asked += 1
        there = {} if self.empty else {"there": {"watched_tiles.chargeback": 4 + self.moved}}
        return there | {
            "here": {"watched_tiles.transaction": self.asked, "watched_tiles.chargeback": 6 - self.moved},
        }


def counters_of(store: Store) -> watch._Counters:
    plan = SimpleNamespace(usecase=SimpleNamespace(name="watched"))
    return watch._Counters(cast(FeaturesService, cast(Any, SimpleNamespace(writer=store, plan=plan))))


@pytest.mark.parametrize(("pause_s", "asked"), [(0.0, 31), (30.0, 2)])
def test_counters_are_asked_for_as_often_as_the_store_bears(
    pause_s: float, asked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 100.0
    monkeypatch.setattr(watch, "time", SimpleNamespace(monotonic=lambda: now_s))
    store = Store(pause_s)
    counters = counters_of(store)
    for _ in range(31):
        counters.publish()
        now_s += 1.0
    assert store.asked == asked
    labels = {"usecase": "watched", "view": "watched_tiles"}
    assert REGISTRY.get_sample_value("flywheel_features_counted_events", labels) == asked + 10


def test_a_store_of_which_a_part_is_empty_is_not_gone_on_with() -> None:
    store = Store(0.0)
    counters = counters_of(store)
    counters.publish()
    store.empty = True
    with pytest.raises(JobDied, match="lost a part of what it held"):
        counters.publish()
    assert store.owner == watch.LOST


def test_a_store_of_which_any_part_has_counted_less_than_before_is_not_gone_on_with() -> None:
    store = Store(0.0)
    counters = counters_of(store)
    counters.publish()
    store.moved = 1
    with pytest.raises(JobDied, match="lost a part of what it held; `make rebuild`"):
        counters.publish()
    assert store.owner == watch.LOST
