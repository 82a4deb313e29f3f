"""The running trainer: a history on a real broker becomes a deployed model and an announced result."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from flywheel.adapters.file_model_store import FileModelStore
from flywheel.adapters.kafka_reader import KafkaReader
from flywheel.adapters.kafka_topics import create_topics, publish
from flywheel.contracts.topics import history_topic, topics_of, training_results_topic
from flywheel.contracts.training import TrainingFinished
from tests.engines import free_port, stop
from tests.integration.services.trainer.conftest import SmallWorld

pytestmark = pytest.mark.engine

_TIMEOUT_S = 240


def await_true(condition: Callable[[], bool], process: subprocess.Popen[bytes], timeout_s: float = 60) -> None:
    until = time.monotonic() + timeout_s
    while not condition():
        assert process.poll() is None, "the trainer ended"
        assert time.monotonic() < until, "not in time"
        time.sleep(0.05)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return False


def test_a_history_becomes_a_deployed_model(kafka: str, small_world: SmallWorld, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for name in ("lake", "history"):
        shutil.copytree(small_world.data / name, data / name)
    history = small_world.message("live").model_copy(update={"path": str(data / "history" / "fraud")})
    create_topics(kafka, topics_of("fraud", ("transaction", "chargeback")))
    publish(kafka, history_topic("fraud").name, b"fraud", b"not a message")
    failing = history.model_copy(update={"request_id": "gone", "snapshot_id": "gone"})
    for message in (failing, history):
        publish(kafka, history_topic("fraud").name, b"fraud", message.to_bytes())
    port = free_port()
    environment = os.environ | {
        "FLYWHEEL_DATA_DIR": str(data),
        "FLYWHEEL_KAFKA_BOOTSTRAP": kafka,
        "FLYWHEEL_TRAINER_METRICS_PORT": str(port),
    }
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "services.trainer"], env=environment, stderr=log)
    reader = KafkaReader(kafka, [training_results_topic("fraud").name], "test-trainer")
    try:
        await_true(lambda: answers(f"http://127.0.0.1:{port}/readyz"), process)
        results: list[TrainingFinished] = []

        def finished() -> bool:
            results.extend(TrainingFinished.model_validate_json(record.value) for record in reader.poll(0.2, 10))
            return len(results) >= 2

        await_true(finished, process, _TIMEOUT_S)
        assert [result.request_id for result in results] == ["gone", "live"]
        assert "not there any more" in str(results[0].error)
        assert results[1].deployed, results[1]
        current = FileModelStore(data / "models").current("fraud")
        assert current is not None
        assert current.champion == results[1].version
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        reader.close()
        stop(process)
