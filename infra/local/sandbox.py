"""A second stack beside the first: its own data directory, its own ports, its own world. For tests and measurements."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from flywheel.contracts.settings import PlatformSettings
from infra.local import places, side_by_side


@dataclass(frozen=True)
class Sandbox:
    """One stack's settings as environment variables.

    `checkout` is the working copy whose code runs; `world` holds the world's knobs by their short names.
    """

    environment: Mapping[str, str]
    checkout: Path = places.ROOT
    settings: PlatformSettings = field(init=False)

    def __post_init__(self) -> None:
        values = {
            name.removeprefix("FLYWHEEL_").lower(): value
            for name, value in self.environment.items()
            if name.startswith("FLYWHEEL_")
        }
        object.__setattr__(self, "settings", PlatformSettings.model_validate(values))

    def run(self, *command: str, timeout_s: float) -> subprocess.CompletedProcess[str]:
        """Runs a command in the checkout under this stack's settings; standard error is part of `stdout`."""
        return subprocess.run(
            command,
            cwd=self.checkout,
            env=os.environ | dict(self.environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def python(self, module: str, *arguments: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        """Runs a module of the checkout."""
        return self.run(sys.executable, "-m", module, *arguments, timeout_s=timeout_s)


def sandbox(directory: Path, *, world: Mapping[str, object], checkout: Path = places.ROOT) -> Sandbox:
    """A stack below `directory`, on ports that are free now, whose world has the given knobs (`rate`, `customers`)."""
    knobs = {f"FLYWHEEL_WORLD_{name.upper()}": str(value) for name, value in world.items()}
    environment = side_by_side.environment(directory.absolute()) | knobs
    return Sandbox(environment, checkout)
