"""Fixtures of the monitor's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.monitor.bootstrap import Monitor
from tests.monitor_runs import SETTINGS, Run
from tests.monitor_scene import Scene


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    started: list[Monitor] = []

    def start(scene: Scene, **settings: object) -> Monitor:
        monitor = scene.monitor(**{**SETTINGS, "data_dir": tmp_path, **settings})
        monitor.watch.start()
        started.append(monitor)
        return monitor

    yield start
    for monitor in started:
        monitor.watch.stop()
