"""HAProxy before the replicas of serving: every call of a connection goes to the replica with the fewest under way.

`python -m infra.local.balancer` writes the configuration for this stack's ports and becomes that HAProxy.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from flywheel.contracts.settings import PlatformSettings
from infra.local.becoming import become
from infra.local.failures import CannotStart
from infra.local.scale import ServingReplica, serving_replicas

NAME = "balancer"
NOTICE_S = 1.0
"""How long a replica that is told to stop says so before it does: several times what it takes to be asked."""

_CHECK_EVERY_MS = 200
_CHECK_TIMEOUT_MS = 3_000

_HEAD = f"""\
global
    # One thread, one pool of connections: more would only take turns with the replicas on the same cores.
    nbthread 1

defaults
    mode http
    timeout connect 500ms
    # A call ends by its caller's deadline; clients stay connected between calls.
    timeout client 1h
    timeout server 1h
    timeout http-request 10s
    timeout check {_CHECK_TIMEOUT_MS}ms
    # A call that a replica may have begun is never sent twice: it would be decided, and logged, twice.
    retries 2
    retry-on conn-failure
    option redispatch 1
    balance leastconn
    http-reuse always
    # Readiness fails first when a replica is told to stop, and at once when it is gone.
    option httpchk GET /readyz
    http-check expect status 200
"""
# A connection that is refused says earlier than the next question that a replica is gone.
_CHECK = f"inter {_CHECK_EVERY_MS}ms fall 1 rise 1 observe layer4 error-limit 1 on-error mark-down"


def binary(settings: PlatformSettings) -> Path:
    """The binary that runs. Raises CannotStart when there is none."""
    found = shutil.which(settings.haproxy or "haproxy")
    if found is None:
        named = f"FLYWHEEL_HAPROXY names {settings.haproxy}, which is no program"
        missing = named if settings.haproxy else "there is no `haproxy` on PATH"
        raise CannotStart(
            f"Several replicas of serving need HAProxy before them, and {missing}: install it (Debian: apt install "
            "haproxy), name its binary by FLYWHEEL_HAPROXY, or set FLYWHEEL_SERVING_REPLICAS to 1"
        )
    return Path(found).absolute()


def configuration(settings: PlatformSettings, replicas: Sequence[ServingReplica]) -> str:
    """HAProxy's configuration for these replicas."""
    # Whatever it speaks at its address, a replica tells of itself in HTTP/1 beside its metrics.
    checks = [f"check port {each.metrics_port} check-proto h1 {_CHECK}" for each in replicas]
    asked = [(f"{r.name} {r.address} proto h2", check) for r, check in zip(replicas, checks, strict=True)]
    parts = [_HEAD, _proxy("grpc", f"{settings.serving_address} proto h2", asked)]
    if settings.serving_rest_address:
        # Asked once for both addresses.
        told = [(f"{each.name} {each.rest_address} proto h1", f"track grpc/{each.name}") for each in replicas]
        parts.append(_proxy("rest", f"{settings.serving_rest_address} proto h1", told))
    return "\n".join(parts)


def _proxy(name: str, listens: str, servers: Sequence[tuple[str, str]]) -> str:
    lines = [f"    server {server} {check}" for server, check in servers]
    return "\n".join([f"listen {name}", f"    bind {listens}", *lines, ""])


def prepare(settings: PlatformSettings) -> Path:
    """Writes the configuration for this stack, and tells where it is."""
    directory = settings.data_dir.absolute() / NAME
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "haproxy.cfg"
    file.write_text(configuration(settings, serving_replicas(settings)))
    return file


def command(program: Path, configuration: Path) -> list[str]:
    """The command that runs it in the foreground until SIGTERM; SIGUSR1 ends it once all clients have gone."""
    return [str(program), "-db", "-f", str(configuration)]


def main() -> None:
    """Becomes the balancer of the stack that the settings describe."""
    settings = PlatformSettings()
    become(lambda: command(binary(settings), prepare(settings)))


if __name__ == "__main__":
    main()
