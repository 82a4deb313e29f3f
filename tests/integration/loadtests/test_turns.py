"""Two sides of a comparison really serve, one after the other, beside the stack they borrow from."""

from __future__ import annotations

from pathlib import Path

import pytest

from flywheel.adapters.kafka_topics import create_topics
from flywheel.contracts.settings import PlatformSettings
from flywheel.contracts.topics import decisions_topic
from infra.local.readiness import GrpcServing
from loadtests.comparison.compared import compare
from loadtests.comparison.turns import HOME, in_turns, side_of
from loadtests.failures import CannotTest
from loadtests.preparation import Order
from loadtests.result import Result
from loadtests.scenario import load
from tests.load_results import result_of

pytestmark = pytest.mark.engine


@pytest.fixture
def settings(kafka: str, redis_server: str, tmp_path: Path) -> PlatformSettings:
    create_topics(kafka, [decisions_topic("fraud")])
    (tmp_path / "models").mkdir()
    return PlatformSettings(data_dir=tmp_path, kafka_bootstrap=kafka, redis_url=redis_server, usecase="fraud")


def test_each_side_serves_in_its_turn_and_a_asks_first_in_every_other_pair(settings: PlatformSettings) -> None:
    scenario, text = load("turns")
    lines: list[str] = []
    seen: list[tuple[float, str]] = []

    def test(order: Order, changed: PlatformSettings) -> Result:
        assert GrpcServing(changed.serving_address)()
        assert set(order.others) == {"serving"}
        assert changed.serving_address != settings.serving_address
        seen.append((order.capacity_per_s, changed.serving_address))
        return result_of({"calm": 400.0}, seed=len(seen))

    sides = side_of("A", ".", []), side_of("B", ".", ["LOG_LEVEL=ERROR"])
    order = Order("turns", scenario, text, tell=lines.append)
    a, b = in_turns(sides, order, settings, pairs=2, test=test)
    turns = [line.split(": ")[1].split(" ")[0] for line in lines]
    assert turns == ["A", "B", "B", "A"]
    # Every turn after the first asks what the first has measured.
    assert [capacity for capacity, _ in seen] == [0.0, 1_000.0, 1_000.0, 1_000.0]
    assert not any(GrpcServing(address)() for _, address in seen)
    # Each has its own settings: B was told to be quiet.
    said = {name: (HOME / "sides" / name / "serving.log").read_text() for name in "AB"}
    assert '"level": "info"' in said["A"]
    assert '"level": "info"' not in said["B"]
    assert compare(a, b).rows


def test_a_side_that_does_not_start_says_why(settings: PlatformSettings) -> None:
    scenario, text = load("turns")
    lines: list[str] = []
    sides = side_of("A", ".", ["SERVING_WORKERS=many"]), side_of("B", ".", [])

    def never(order: Order, changed: PlatformSettings) -> Result:
        del order, changed
        raise AssertionError("nothing serves")

    with pytest.raises(CannotTest, match=r"Serving of A \(.*SERVING_WORKERS=many\) does not start: .*"):
        in_turns(sides, Order("turns", scenario, text, tell=lines.append), settings, pairs=1, test=never)
