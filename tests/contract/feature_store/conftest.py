"""The stores that every test of the suite is asked of: the one in memory, Redis, and a Redis Cluster."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.attribute_scene import PLAN as ATTRIBUTE_PLAN
from tests.feature_stores import KINDS, PLAN, Store, opened


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    yield from opened(request, PLAN)


@pytest.fixture(params=KINDS)
def attribute_store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """One for a use case that has attributes."""
    yield from opened(request, ATTRIBUTE_PLAN)
