"""Fixtures that every test may ask for."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import HealthCheck, settings

# How long an example takes, or is in the making, says something about the machine, not about the code.
settings.register_profile("flywheel", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("flywheel")

pytest_plugins = ["tests.engines"]


@pytest.fixture(autouse=True)
def _logs_as_they_were() -> Iterator[None]:
    """Whatever a test configures of logging ends with it."""
    root = logging.root
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
