"""What docker-compose.yml declares, as data."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
Service = dict[str, Any]

_DEFAULTED = re.compile(r"\$\{[A-Z_]+:-([^}]*)\}")
_UNITS = {"m": 1, "g": 1024}


def services() -> dict[str, Service]:
    """The services by name, with the defaults of all variables filled in."""
    text = _DEFAULTED.sub(r"\1", (ROOT / "docker-compose.yml").read_text())
    found: dict[str, Service] = yaml.safe_load(text)["services"]
    return found


def is_task(service: Service) -> bool:
    """Whether it runs to its end instead of staying."""
    return str(service["restart"]).startswith(("on-failure", "no"))


def is_own(service: Service) -> bool:
    """Whether its image is made here."""
    return str(service["image"]).startswith("flywheel-")


def part(service: Service) -> str:
    """The part of the platform whose image it runs."""
    return str(service["image"]).removeprefix("flywheel-").partition(":")[0]


def mebibytes(limit: str) -> int:
    """The size of `512m` or `1g`."""
    return int(limit[:-1]) * _UNITS[limit[-1]]
