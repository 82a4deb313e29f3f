"""Serving as users start it, in a process of its own on real engines."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from flywheel.adapters.kafka_topics import create_topics
from flywheel.contracts.topics import decisions_topic
from infra.local.readiness import GrpcServing
from tests.engines import free_port, running


@dataclass(frozen=True)
class Started:
    """The process, and where it answers."""

    process: subprocess.Popen[bytes]
    address: str
    metrics_url: str
    log: Path


@contextmanager
def started(
    directory: Path, kafka: str, redis: str, monkeypatch: pytest.MonkeyPatch, **settings: str
) -> Iterator[Started]:
    """The process, once it answers. Its settings are those of everything that the test starts."""
    create_topics(kafka, [decisions_topic("fraud")])
    address, metrics_port = f"127.0.0.1:{free_port()}", free_port()
    for name, value in {
        "DATA_DIR": str(directory),
        "KAFKA_BOOTSTRAP": kafka,
        "REDIS_URL": redis,
        "SERVING_ADDRESS": address,
        "SERVING_REST_ADDRESS": f"127.0.0.1:{free_port()}",
        "SERVING_METRICS_PORT": str(metrics_port),
        **settings,
    }.items():
        monkeypatch.setenv(f"FLYWHEEL_{name}", value)
    log = directory / "serving.log"
    with running([sys.executable, "-m", "services.serving"], GrpcServing(address), log) as process:
        yield Started(process, address, f"http://127.0.0.1:{metrics_port}", log)
