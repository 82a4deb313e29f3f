"""Which Java it is, from what it says of itself."""

from __future__ import annotations

import pytest

from infra.local.java import major_version


@pytest.mark.parametrize(
    ("told", "version"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('java version "1.8.0_402"', 8),
        ('openjdk version "21" 2023-09-19', 21),
        ('Picked up JAVA_TOOL_OPTIONS: -Xmx1g\nopenjdk version "25-ea" 2025', 25),
        ("no such thing", 0),
    ],
)
def test_major_version(told: str, version: int) -> None:
    assert major_version(told) == version
