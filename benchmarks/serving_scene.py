"""What serving is measured on: one Redis filled by Feast, one model, one broker, and the servers as processes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.card_scoring import FEATURES, usecase
from benchmarks.figures import ROOT
from flywheel.adapters import feast_stored
from flywheel.adapters.file_model_store import FileModelStore
from flywheel.adapters.kafka_topics import create_topics
from flywheel.adapters.onnx_export import export_boosted
from flywheel.adapters.onnx_scorer import OnnxScorer
from flywheel.contracts.models import Deployment, Histogram, ModelManifest
from flywheel.contracts.topics import topics_of
from flywheel.kernel.model_integrity import digest_of
from infra.local import broker, online_store
from infra.local.readiness import BrokerAnswers, Probe, RedisAnswers, until
from infra.local.side_by_side import environment

HOME = ROOT / "build" / "serving"
CARDS = 5_000
SERVER_CORE, OTHERS_CORE = "0", "1"
"""As `taskset` names them."""

_ROWS, _TREES, _LEAVES = 20_000, 300, 31
_START_TIMEOUT_S = 90.0
_STOP_TIMEOUT_S = 20.0
_TABLE = usecase.attribute_tables[0]
_VIEW = _TABLE.view(usecase.name)


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
    """Redis and the broker, filled, on the core of the load generator; stopped at the end."""
    directory, data = HOME / "scene", HOME / "data"
    for each in (directory, data):
        shutil.rmtree(each, ignore_errors=True)
        each.mkdir(parents=True)
    settings = environment(data)
    redis_port = int(settings["FLYWHEEL_REDIS_URL"].rsplit(":", 1)[1].split("/")[0])
    kafka_port = int(settings["FLYWHEEL_KAFKA_BOOTSTRAP"].rsplit(":", 1)[1])
    node = broker.Broker(data / "kafka", kafka_port, kafka_port + 1)
    model, rows = _model(), np.random.default_rng(5).normal(size=(CARDS, FEATURES)).astype(np.float32)
    scene = Scene(directory, redis_port, settings, model, rows, OnnxScorer(model).score(rows))
    with ExitStack() as stack:
        redis_command = online_store.command(data, redis_port)
        stack.enter_context(running("redis", redis_command, RedisAnswers(redis_port), cores=OTHERS_CORE))
        broker.prepare(node)
        stack.enter_context(running("broker", broker.command(node), BrokerAnswers(node.bootstrap), cores=OTHERS_CORE))
        create_topics(node.bootstrap, topics_of(usecase.name, tuple(event.event_name for event in usecase.events)))
        _fill(scene)
        _publish(scene)
        yield scene


def publish(scene: Scene, version: str, model: bytes) -> None:
    """Publishes a version and deploys it as the champion."""
    golden = scene.rows[:20]
    manifest = ModelManifest(
        usecase=usecase.name,
        version=version,
        algorithm="lightgbm",
        created_at=datetime.now(UTC),
        feature_names=usecase.feature_names,
        feature_fingerprint=usecase.fingerprint,
        digest=digest_of(model),
        snapshot_id="random",
        code_commit="unknown",
        trained_until=datetime.now(UTC),
        metrics={},
        gates=(),
        reference={},
        score_reference=Histogram(edges=(0.5,), counts=(1, 1)),
        golden_inputs=tuple(tuple(row) for row in golden.tolist()),
        golden_scores=tuple(OnnxScorer(model).score(golden).tolist()),
        mlflow_run_id="none",
    )
    scene.models.publish(manifest, model)
    deploy(scene, version)


def deploy(scene: Scene, champion: str) -> int:
    """The sequence number of a new deployment of that version."""
    newest = scene.models.current(usecase.name)
    sequence = 1 if newest is None else newest.sequence + 1
    scene.models.deploy(
        Deployment(
            sequence=sequence,
            usecase=usecase.name,
            deployed_at=datetime.now(UTC),
            deployed_by="benchmark",
            reason="measuring",
            champion=champion,
        )
    )
    return sequence


@contextmanager
def running(
    name: str,
    command: list[str],
    ready: Probe,
    *,
    cores: str = SERVER_CORE,
    told: Mapping[str, str] | None = None,
    directory: Path = ROOT,
) -> Iterator[subprocess.Popen[bytes]]:
    """The process on those cores, once it answers; stopped at the end. Its output is below `HOME`.

    Raises RuntimeError when it does not come up.
    """
    log = HOME / "logs" / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["taskset", "-c", cores, *command],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=_clean(os.environ) | dict(told or {}),
            cwd=directory,
            start_new_session=True,
        )
    try:
        up = until(
            lambda: process.poll() is not None or ready(),
            _START_TIMEOUT_S,
            clock=time.monotonic,
            pause=lambda: time.sleep(0.05),
        )
        if not up or process.poll() is not None:
            raise RuntimeError(f"{name} did not start:\n{log.read_text()[-2000:]}")
        yield process
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ends the process, gracefully if it will, and whatever it leaves behind."""
    process.terminate()
    try:
        process.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        pass
    finally:
        # It leads a session of its own, so nobody else is in its group.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def checkout() -> Path:
    """A directory from which `python -m services.serving` knows the use case that is measured."""
    tree = HOME / "checkout"
    shutil.rmtree(tree, ignore_errors=True)
    (tree / "usecases").mkdir(parents=True)
    for name in ("flywheel", "services", "infra"):
        (tree / name).symlink_to(ROOT / name)
    (tree / "usecases" / "__init__.py").write_text('"""Use cases."""\n')
    (tree / "usecases" / usecase.name).symlink_to(ROOT / "benchmarks" / usecase.name)
    return tree


def python_of(peer: str) -> str:
    """The interpreter of a peer's environment, made first if it is not there or its list has changed."""
    home, wanted = HOME / "environments" / peer, ROOT / "benchmarks" / "serving_peers" / f"{peer}.txt"
    stamp = home / "installed.txt"
    if not stamp.exists() or stamp.read_text() != wanted.read_text():
        uv = str(Path(sys.executable).with_name("uv"))
        shutil.rmtree(home, ignore_errors=True)
        subprocess.run([uv, "venv", "-q", "--python", sys.executable, str(home)], check=True)
        install = [uv, "pip", "install", "-q", "--no-deps", "--python", str(home / "bin" / "python"), "-r", str(wanted)]
        subprocess.run(install, check=True)
        shutil.copy(wanted, stamp)
    return str(home / "bin" / "python")


def _clean(values: Mapping[str, str]) -> dict[str, str]:
    """Without settings of other stacks, and with one thread for whatever computes."""
    kept = {name: value for name, value in values.items() if not name.startswith(("FLYWHEEL_", "VIRTUAL_ENV"))}
    return kept | {"OMP_NUM_THREADS": "1"}


def _model() -> bytes:
    """Trained on random data once, and kept."""
    kept = HOME / "model.onnx"
    if not kept.exists():
        rng = np.random.default_rng(3)
        rows = rng.normal(size=(_ROWS, FEATURES))
        labels = (rows @ rng.normal(size=FEATURES) + rng.normal(size=_ROWS) > 0).astype(int)
        options = {"num_leaves": _LEAVES, "objective": "binary", "verbose": -1, "num_threads": 2, "seed": 3}
        booster: Any = lightgbm.train(options, lightgbm.Dataset(rows, labels), num_boost_round=_TREES)
        HOME.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(export_boosted(booster.dump_model(), 1.0, 0.0))
    return kept.read_bytes()


def _fill(scene: Scene) -> None:
    """Writes every card by Feast's own SDK, and what the peers need to read them."""
    from feast import FeatureStore

    directory = scene.directory
    (directory / "model.onnx").write_bytes(scene.model)
    (directory / "features.txt").write_text("\n".join(f"{_VIEW.name}:{_TABLE.stored_name(c)}" for c in _TABLE.columns))
    (directory / "feature_store.yaml").write_text(
        f"project: {usecase.name}\nprovider: local\nregistry: {directory / 'registry.db'}\n"
        f"online_store:\n  type: redis\n  connection_string: 127.0.0.1:{scene.redis_port}\n"
        "entity_key_serialization_version: 3\n"
    )
    store = FeatureStore(repo_path=str(directory))
    store.apply(feast_stored.feast_objects([_VIEW], directory))
    now = datetime.now(UTC).replace(microsecond=0)
    columns: dict[str, Any] = {
        _TABLE.stored_name(column): scene.rows[:, place].astype(np.float64)
        for place, column in enumerate(_TABLE.columns)
    }
    columns[_TABLE.as_of] = float(now.timestamp() * 1e6)
    columns["card_id"] = [f"card-{n}" for n in range(CARDS)]
    columns["event_timestamp"] = now
    store.write_to_online_store(_VIEW.name, pd.DataFrame(columns))


def _publish(scene: Scene) -> None:
    publish(scene, "v1", scene.model)
