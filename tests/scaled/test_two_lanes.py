"""Two edge lanes as processes beside Spark: decisions see every acknowledged event, whichever of the two has it."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator
from dataclasses import replace

import pytest

from flywheel.kernel.durations import DAY_US
from tests.engines import free_port
from tests.features_stack import Stack, await_counts, counted, engines, lot, until, wrong_features

pytestmark = pytest.mark.scaled
EDGE = "services.features.edge"


@pytest.fixture
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with engines(tmp_path_factory.mktemp("lanes")) as made:
        yield made


class Lanes:
    """Both, each with metrics of its own."""

    def __init__(self, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch = monkeypatch
        self._stacks = [stack, replace(stack, edge_port=free_port())]
        monkeypatch.setenv("FLYWHEEL_EDGE_REPLICAS", "2")
        self.processes: list[subprocess.Popen[bytes]] = [self._begin(number) for number in range(2)]

    def _begin(self, number: int) -> subprocess.Popen[bytes]:
        self._patch.setenv("FLYWHEEL_EDGE_REPLICA", str(number))
        return self._stacks[number].start(EDGE)

    def are_ready(self) -> bool:
        return all(each.is_ready(each.edge_port) for each in self._stacks)

    def kill(self, number: int) -> None:
        self.processes[number].kill()
        self.processes[number].wait()

    def again(self, number: int) -> None:
        self.processes[number] = self._begin(number)


def test_features_are_exact_on_two_lanes_of_which_one_is_killed(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(12)
    stack.send(lot(rng, "a", 0, 300))
    spark, lanes = stack.start(), Lanes(stack, monkeypatch)
    try:
        until(stack.is_ready, "ready", stack)
        until(lanes.are_ready, "both lanes ready", stack)
        await_counts(stack)
        spark.kill()
        spark.wait()
        before = counted(stack)
        stack.send(lot(rng, "b", 11 * DAY_US, 100))
        until(lambda: not wrong_features(stack), "events of all partitions on the edge", stack, 60)
        assert counted(stack) == before, "the tiles have not moved"
        lanes.kill(1)
        stack.send(lot(rng, "c", 22 * DAY_US, 100))
        # Its partitions are nobody's until it is back.
        assert wrong_features(stack)
        lanes.again(1)
        until(lambda: not wrong_features(stack), "events on the edge again", stack, 60)
        spark = stack.start()
        await_counts(stack)
        assert not wrong_features(stack)
    finally:
        spark.kill()
        spark.wait()
        for number in range(2):
            lanes.kill(number)
