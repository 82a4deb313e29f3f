"""A stack of containers under a name and on ports of its own."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PORTS = (
    "KAFKA_PORT",
    "REDIS_PORT",
    "INGEST_PORT",
    "SERVING_PORT",
    "SERVING_REST_PORT",
    "MONITOR_PORT",
    "MLFLOW_PORT",
    "PROMETHEUS_PORT",
    "GRAFANA_PORT",
)


@dataclass(frozen=True)
class Composed:
    """A Compose project of the checkout; `environment` holds its ports and its world's knobs."""

    name: str
    environment: Mapping[str, str]

    def run(
        self,
        *arguments: str,
        timeout_s: float = 60,
        environment: Mapping[str, str] | None = None,
        may_end_with: tuple[int, ...] = (0,),
    ) -> subprocess.CompletedProcess[str]:
        """`docker compose …`; standard error is part of `stdout`.

        Fails the test when the command ends in another way, with the last that each container said that is not well.
        """
        done = subprocess.run(
            ["docker", "compose", "--project-name", self.name, *arguments],
            cwd=ROOT,
            env=os.environ | dict(self.environment) | dict(environment or {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert done.returncode in may_end_with, (
            f"docker compose {' '.join(arguments)}\n{done.stdout[-3000:]}\n{self._troubles()}"
        )
        return done

    def url(self, port: str) -> str:
        """Where that published port answers."""
        return f"http://127.0.0.1:{self.environment[port]}"

    def _troubles(self) -> str:
        told = []
        for name, container in self.containers().items():
            state = container["State"]
            if state["ExitCode"] or state.get("Health", {}).get("Status", "healthy") != "healthy":
                said = subprocess.run(
                    ["docker", "logs", "--tail", "30", container["Id"]],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    timeout=60,
                    check=False,
                )
                told.append(f"--- {name}: {state['Status']}, exit code {state['ExitCode']}\n{said.stdout[-4000:]}")
        return "\n".join(told)

    def containers(self) -> dict[str, dict[str, Any]]:
        """What the engine says of each container of the project that there is, by its service."""
        found = docker("ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.project={self.name}").split()
        described = json.loads(docker("inspect", *found)) if found else []
        return {each["Config"]["Labels"]["com.docker.compose.service"]: each for each in described}

    def inside(self, service: str, *command: str) -> subprocess.CompletedProcess[str]:
        """Runs a command in the running container of a service."""
        (identity,) = docker(
            *("ps", "--quiet", "--filter", f"label=com.docker.compose.project={self.name}"),
            *("--filter", f"label=com.docker.compose.service={service}"),
        ).split()
        return subprocess.run(
            ["docker", "exec", identity, *command], capture_output=True, text=True, timeout=60, check=False
        )


def docker(*arguments: str) -> str:
    """What a command of the engine's client prints."""
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=60, check=True).stdout
