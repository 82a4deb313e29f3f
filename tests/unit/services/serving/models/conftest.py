"""Fixtures of the tests of models."""

from __future__ import annotations

import pytest

from flywheel.adapters.memory_model_store import MemoryModelStore


@pytest.fixture
def store() -> MemoryModelStore:
    return MemoryModelStore()
