"""The locks: what is installed where, to the version."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

REQUIREMENTS = Path(__file__).resolve().parents[2] / "requirements"
_PINNED = re.compile(r"^(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[^\s;\\]+)", re.MULTILINE)


class Package(NamedTuple):
    """One package as it is locked; its name as indexes write it."""

    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


def locks(directory: Path = REQUIREMENTS) -> dict[str, Path]:
    """Every lock by its name: `run`, `dev`, `images/serving`, …"""
    return {str(path.relative_to(directory).with_suffix("")): path for path in sorted(directory.rglob("*.txt"))}


def packages(lock: Path) -> frozenset[Package]:
    """What the lock pins."""
    return frozenset(Package(_normal(name), version) for name, version in _PINNED.findall(lock.read_text()))


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
