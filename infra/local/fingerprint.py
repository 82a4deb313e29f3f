"""Remembers with which settings and declaration a stack was started, so that others are never silently half-applied."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from flywheel.kernel.declaration import UseCase

_FILE = "settings.json"
_PREFIX = "FLYWHEEL_"
_OWN = frozenset({"FLYWHEEL_STACK"})


def of(environment: Mapping[str, str], dotenv: str, usecase: UseCase) -> dict[str, str]:
    """A short digest of every setting by name, and of what is declared: values may be secrets, so none is kept."""
    values = {name: value for name, value in environment.items() if name.startswith(_PREFIX) and name not in _OWN}
    if dotenv.strip():
        values[".env"] = dotenv
    digests = {name: hashlib.sha256(value.encode()).hexdigest()[:16] for name, value in sorted(values.items())}
    return digests | {f"the features of {usecase.name}": usecase.fingerprint}


def remember(run_dir: Path, settings: Mapping[str, str]) -> None:
    """Keeps them beside the running stack."""
    (run_dir / _FILE).write_text(json.dumps(settings))


def changed(run_dir: Path, settings: Mapping[str, str]) -> list[str]:
    """Names of those that differ from the running stack's."""
    try:
        before: dict[str, str] = json.loads((run_dir / _FILE).read_text())
    except FileNotFoundError:
        return []
    return sorted(name for name in {*before, *settings} if before.get(name) != settings.get(name))
