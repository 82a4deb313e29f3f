"""The index of models is made of what is known already: the model store is read once a second, however many ask."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from flywheel.kernel.lineup import Lineup, LoadedModel
from flywheel.kernel.ports import Unavailable
from services.serving.inference.repository import Repository
from tests.decision_scene import Fixed
from tests.serving_parts import USECASE


class Published:
    """A store that takes as long as somebody wants, and counts how often it is read."""

    def __init__(self) -> None:
        self.versions = ["v1", "v2"]
        self.reads = 0
        self.now_s = 0.0
        self.takes_s = 0.0
        self.away = False
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.lineup = Lineup(LoadedModel("v1", Fixed(0.1)))
        self.repository = Repository(USECASE, lambda: self.lineup, self.read, steady_s=lambda: self.now_s)

    def read(self) -> list[str]:
        self.reads += 1
        assert self.may_answer.wait(10)
        self.now_s += self.takes_s
        if self.away:
            raise Unavailable("away")
        return self.versions

    def unloaded(self) -> list[str]:
        return [entry.version for entry in self.repository.unloaded()]


def test_the_store_is_read_again_after_a_second_and_no_sooner() -> None:
    store = Published()
    assert [store.unloaded() for _ in range(100)] == [["v2"]] * 100
    store.versions = ["v1", "v2", "v3"]
    store.now_s = 0.99
    assert (store.unloaded(), store.reads) == (["v2"], 1)
    store.now_s = 1.0
    assert (store.unloaded(), store.reads) == (["v2", "v3"], 2)


@pytest.mark.parametrize("takes_s", [0.0, 1.2, 10.0])
def test_many_who_ask_at_once_share_one_reading_however_long_it_takes(takes_s: float) -> None:
    store = Published()
    store.takes_s = takes_s
    store.may_answer.clear()
    with ThreadPoolExecutor(8) as threads:
        asked = [threads.submit(store.unloaded) for _ in range(8)]
        store.may_answer.set()
        assert [each.result(10) for each in asked] == [["v2"]] * 8
    assert store.reads == 1


def test_many_who_ask_a_store_that_is_away_wait_for_it_once_and_are_told_so() -> None:
    store = Published()
    store.takes_s, store.away = 10.0, True
    store.may_answer.clear()
    with ThreadPoolExecutor(8) as threads:
        asked = [threads.submit(store.unloaded) for _ in range(8)]
        store.may_answer.set()
        assert [str(each.exception(10)) for each in asked] == ["away"] * 8
    assert store.reads == 1
    store.away = False
    store.now_s += 1.0
    assert (store.unloaded(), store.reads) == (["v2"], 2)


def test_what_is_loaded_is_told_anew_once_the_line_up_is_another() -> None:
    store = Published()
    first = store.repository.loaded()
    assert store.repository.loaded() is first
    store.lineup = Lineup(LoadedModel("v2", Fixed(0.1)))
    assert [entry.version for entry in store.repository.loaded()] == ["v2"]
    assert store.unloaded() == ["v1"]
