"""A second stack beside the first: its own data directory, its own ports, its own world. For tests and measurements."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from flywheel.contracts.settings import PlatformSettings
from infra.local import places


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
    ports = iter(_free_ports(9))
    environment = {
        "FLYWHEEL_DATA_DIR": str(directory.absolute()),
        "FLYWHEEL_KAFKA_BOOTSTRAP": f"127.0.0.1:{_free_pair()}",
        "FLYWHEEL_REDIS_URL": f"redis://127.0.0.1:{next(ports)}/0",
        "FLYWHEEL_INGEST_URL": f"http://127.0.0.1:{next(ports)}",
        "FLYWHEEL_SERVING_ADDRESS": f"127.0.0.1:{next(ports)}",
        "FLYWHEEL_MONITOR_URL": f"http://127.0.0.1:{next(ports)}",
        **{f"FLYWHEEL_{name}_METRICS_PORT": str(next(ports)) for name in ("FEATURES", "SERVING", "TRAINER", "WORLD")},
        **{f"FLYWHEEL_WORLD_{name.upper()}": str(value) for name, value in world.items()},
    }
    return Sandbox(environment, checkout)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _free_pair() -> int:
    """A free port whose successor is free as well: the broker's listener and its controller."""
    while True:
        (port,) = _free_ports(1)
        with socket.socket() as probe:
            if port < 65535 and probe.connect_ex(("127.0.0.1", port + 1)) != 0:
                return port
