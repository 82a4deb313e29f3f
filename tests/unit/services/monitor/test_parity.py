"""The console's state tells the newest comparison of served with recomputed features."""

from __future__ import annotations

import math
from datetime import timedelta

from flywheel.contracts.parity import FeatureMismatches, MismatchExample
from flywheel.contracts.training import GateResult, TrainingFinished
from flywheel.kernel.erasure import EraseKey
from flywheel.kernel.gates import NOT_MEASURED
from services.monitor.observations import Observations
from services.monitor.overview import _run
from services.monitor.parity import parity_of
from services.monitor.state import Parity
from tests.monitor_scene import NOW, Scene
from usecases.fraud import usecase

EXAMPLE = MismatchExample(event_id="tx-9", decided_at=NOW, online=4.0, offline=math.nan)
WRONG = FeatureMismatches(
    feature="card_transaction_count_1h",
    mismatches=12,
    worst_absolute=math.inf,
    worst_relative=math.inf,
    example=EXAMPLE,
)


def seen(scene: Scene) -> Parity | None:
    observations = Observations(usecase, EraseKey(b"secret", "fraud"), window=100, capacity=100)
    for topic in observations.topics:
        observations.read(scene.broker.records(topic))
    assert observations.counts["unreadable"] == 0
    return parity_of(observations.parity)


def test_nothing_is_said_before_the_first_report() -> None:
    assert seen(Scene()) is None


def test_the_newest_report_is_told() -> None:
    scene = Scene()
    scene.compare()
    scene.compare(WRONG)
    found = seen(scene)
    assert found is not None
    assert (found.decisions, found.values, found.undecidable) == (1_950, 48_000, 731)
    assert (found.mismatches, found.mismatched_share, found.tolerated_share) == (12, 12 / 48_000, 0.001)
    assert (found.stale_values, found.stale_mismatches, found.skipped) == (25, 2, {"event_not_archived": 3})
    assert found.until == NOW - timedelta(seconds=40)
    (feature,) = found.features
    assert (feature.name, feature.mismatches, feature.event_id) == (WRONG.feature, 12, "tx-9")
    # What is no finite number has none in JSON.
    assert (feature.worst_absolute, feature.online, feature.offline) == (None, 4.0, None)


def test_a_gate_that_was_not_measured_has_no_value() -> None:
    gates = tuple(
        GateResult(name="g", passed=True, value=value, demand="not measured yet") for value in (NOT_MEASURED, 0.0)
    )
    run = TrainingFinished(request_id="r", finished_at=NOW, version="v", deployed=True, gates=gates)
    assert [gate.value for gate in _run(run).gates] == [None, 0.0]
