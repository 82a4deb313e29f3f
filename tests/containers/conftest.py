"""One real stack of containers for the tests of a file, beside whatever else runs here."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from infra.local.side_by_side import free_ports
from tests.composed_stack import PORTS, Composed

WORLD = {"CUSTOMERS": 600, "HISTORY_DAYS": 60, "RATE": 100}
"""A day lasts about eleven seconds, so labels mature within little more than a minute."""


@pytest.fixture(scope="module")
def stack() -> Iterator[Composed]:
    """A stack whose images are built, and nothing of which runs yet. At the end nothing of it is left."""
    if not _has_engine():
        pytest.fail("These tests need a container engine with Compose: `docker compose version`, `docker info`")
    ports = {name: str(port) for name, port in zip(PORTS, free_ports(len(PORTS)), strict=True)}
    knobs = {f"FLYWHEEL_WORLD_{name}": str(value) for name, value in WORLD.items()}
    made = Composed(f"flywheel-test-{os.getpid()}", {**ports, **knobs})
    try:
        made.run("build", "--quiet", timeout_s=1800)
        yield made
    finally:
        made.run("--profile", "*", "down", "--volumes", "--timeout", "20", timeout_s=180)


def _has_engine() -> bool:
    if shutil.which("docker") is None:
        return False
    asked = (["docker", "compose", "version"], ["docker", "info"])
    return all(subprocess.run(each, capture_output=True, timeout=30, check=False).returncode == 0 for each in asked)
