"""The monitor as a process on a real broker: killed, stopped and started again it counts everything once."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from flywheel.adapters.file_model_store import FileModelStore
from flywheel.adapters.kafka_log import KafkaEventLog
from flywheel.adapters.kafka_reader import KafkaReader
from flywheel.adapters.kafka_topics import create_topics
from flywheel.contracts.topics import topics_of, training_requests_topic
from flywheel.contracts.training import TrainingRequested
from services.monitor.state import State
from tests.engines import free_port
from tests.monitor_scene import Scene
from usecases.fraud import usecase

pytestmark = pytest.mark.engine

START_S = 40.0


@contextmanager
def process(bootstrap: str, data_dir: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A monitor process and its address; killed at the end if it still runs."""
    address = f"http://127.0.0.1:{free_port()}"
    environment = {
        **os.environ,
        "FLYWHEEL_KAFKA_BOOTSTRAP": bootstrap,
        "FLYWHEEL_DATA_DIR": str(data_dir),
        "FLYWHEEL_MONITOR_URL": address,
        "FLYWHEEL_MONITOR_REFRESH_S": "0.2",
        "FLYWHEEL_MONITOR_QUALITY_REFRESH_S": "0",
        # The broker is shared: a run that another test's trainer finished must not count as a recent one.
        "FLYWHEEL_MONITOR_RETRAIN_EVERY_MINUTES": "0.001",
    }
    with (data_dir / "monitor.log").open("ab") as log:
        started = subprocess.Popen([sys.executable, "-m", "services.monitor"], env=environment, stderr=log)
    try:
        yield started, address
    finally:
        if started.poll() is None:
            started.kill()
        started.wait()


def state_when(address: str, reached: Callable[[State], bool]) -> State:
    """The first state that has got there."""
    until = time.monotonic() + START_S
    found: State | None = None
    while time.monotonic() < until:
        try:
            found = State.model_validate_json(httpx.get(f"{address}/api/state", timeout=5).content)
        except httpx.TransportError:
            found = None
        if found is not None and reached(found):
            return found
        time.sleep(0.1)
    pytest.fail(f"not reached within {START_S} s; last: {found.loop if found else 'no answer'}")


def is_caught_up(state: State) -> bool:
    return state.loop.broker_answers and state.loop.lag_records == 0


async def write(bootstrap: str, scene: Scene) -> None:
    """Everything of the scene's log, to the real one."""
    log = KafkaEventLog(bootstrap)
    for topic in topics_of(usecase.name, tuple(event.event_name for event in usecase.events)):
        records = [(record.key or b"", record.value) for record in scene.broker.records(topic.name)]
        assert not any(await log.append(topic.name, records))
    await log.close()


@pytest.fixture
def scene(kafka: str, tmp_path: Path) -> Scene:
    create_topics(kafka, topics_of(usecase.name, tuple(event.event_name for event in usecase.events)))
    made = Scene(per_day=150, seed=time.time_ns() % 1_000_000, models=FileModelStore(tmp_path / "models"))
    made.deploy(published_auc=0.95)
    return made


def test_killed_and_started_again_it_counts_everything_once(kafka: str, tmp_path: Path, scene: Scene) -> None:
    with process(kafka, tmp_path) as (first, address):
        before = state_when(address, is_caught_up)
        scene.days(0, 14)
        asyncio.run(write(kafka, scene))
        known = before.loop.decisions
        after = state_when(address, lambda s: s.loop.decisions > known and is_caught_up(s))
        assert after.loop.events == before.loop.events + 14 * 150
        assert after.quality.decisions > 0
        first.send_signal(signal.SIGKILL)
        first.wait()
    with process(kafka, tmp_path) as (second, address):
        again = state_when(address, lambda s: is_caught_up(s) and s.loop.decisions == after.loop.decisions)
        assert again.quality == after.quality
        assert again.quality_by_day == after.quality_by_day
        assert httpx.get(f"{address}/readyz", timeout=5).status_code == 200
        second.send_signal(signal.SIGTERM)
        assert second.wait(15) == 0


def test_lost_quality_puts_a_training_request_into_the_log(kafka: str, tmp_path: Path, scene: Scene) -> None:
    reader = KafkaReader(kafka, [training_requests_topic(usecase.name).name], f"test-{time.time_ns()}")
    scene.days(0, 21, blind=True)
    asyncio.run(write(kafka, scene))
    with process(kafka, tmp_path) as (_, address):
        asked = state_when(address, lambda s: s.retraining.last_requested_at is not None)
        until = time.monotonic() + START_S
        reasons: list[str] = []
        while asked.retraining.last_reason not in reasons and time.monotonic() < until:
            reasons += [TrainingRequested.model_validate_json(r.value).reason for r in reader.poll(0.5, 100)]
    reader.close()
    assert asked.retraining.last_reason in reasons
