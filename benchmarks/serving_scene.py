"""What serving is measured on: one Redis filled by Feast, one model, one broker, and the servers as processes."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.card_scoring import FEATURES, usecase
from benchmarks.serving_processes import HOME, OTHERS_CORE, running
from benchmarks.serving_stock import fill, model_of, publish
from flywheel.adapters.file_model_store import FileModelStore
from flywheel.adapters.kafka_topics import create_topics
from flywheel.adapters.onnx_scorer import OnnxScorer
from flywheel.contracts.topics import topics_of
from flywheel.kernel.declaration import UseCase
from infra.local import broker, online_store
from infra.local.readiness import BrokerAnswers, RedisAnswers
from infra.local.side_by_side import environment

CARDS = 5_000


@dataclass(frozen=True)
class Scene:
    """Where everything is."""

    directory: Path
    """Feast's repository, the model and the names of the features."""
    redis_port: int
    settings: Mapping[str, str]
    """`FLYWHEEL_*` of our own server."""
    model: bytes
    rows: NDArray[np.float32]
    """What is stored of card n, shape (cards, features)."""
    scores: NDArray[np.float64]
    """What every server must answer about card n."""

    @property
    def peer_environment(self) -> dict[str, str]:
        """What the peers are told."""
        return {"SCENE": str(self.directory), "FEAST_PROJECT": usecase.name, "FEAST_USAGE": "False"}

    @property
    def models(self) -> FileModelStore:
        """The store that our server looks at."""
        return FileModelStore(Path(self.settings["FLYWHEEL_DATA_DIR"]) / "models")


@contextmanager
def running_scene() -> Iterator[Scene]:
    """Redis and the broker, filled, on the core of the load generator; stopped at the end.

    Raises SystemExit while another measurement runs: neither would say anything, and both use the same directories.
    """
    HOME.mkdir(parents=True, exist_ok=True)
    with (HOME / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SystemExit("serving is being measured already; wait for that to end") from None
        with _filled_scene() as scene:
            yield scene


@contextmanager
def _filled_scene() -> Iterator[Scene]:
    directory, data = HOME / "scene", HOME / "data"
    for each in (directory, data):
        shutil.rmtree(each, ignore_errors=True)
    data.mkdir(parents=True)
    settings = environment(data)
    redis_port = int(settings["FLYWHEEL_REDIS_URL"].rsplit(":", 1)[1].split("/")[0])
    kafka_port = int(settings["FLYWHEEL_KAFKA_BOOTSTRAP"].rsplit(":", 1)[1])
    node = broker.Broker(data / "kafka", kafka_port, kafka_port + 1)
    model, rows = model_of(FEATURES), np.random.default_rng(5).normal(size=(CARDS, FEATURES)).astype(np.float32)
    scene = Scene(directory, redis_port, settings, model, rows, OnnxScorer(model).score(rows))
    with ExitStack() as stack:
        redis_command = online_store.command(data, redis_port)
        stack.enter_context(running("redis", redis_command, RedisAnswers(redis_port), cores=OTHERS_CORE))
        broker.prepare(node)
        stack.enter_context(running("broker", broker.command(node), BrokerAnswers(node.bootstrap), cores=OTHERS_CORE))
        make_topics(scene, usecase)
        fill(directory, redis_port, usecase, {usecase.attribute_tables[0].name: rows}, model)
        publish(scene.models, usecase, "v1", model)
        yield scene


def make_topics(scene: Scene, declared: UseCase) -> None:
    """All topics of a use case."""
    names = tuple(event.event_name for event in declared.events)
    create_topics(scene.settings["FLYWHEEL_KAFKA_BOOTSTRAP"], topics_of(declared.name, names))
