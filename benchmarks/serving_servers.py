"""Our server as it is measured: how it is started, and how it is asked for decisions."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import orjson

from benchmarks.card_scoring import usecase
from benchmarks.serving_processes import SERVER_CORE, checkout, running
from benchmarks.serving_scene import CARDS, Scene
from flywheel.contracts.proto.decision_pb2 import DecideRequest, DecideResponse
from infra.local.readiness import HttpReady
from loadtests.generator.grpc_pool import GrpcPool
from loadtests.generator.http1_pool import Http1Pool

MESSAGES = 4_096
"""Different requests that are sent over and over."""
DECIDE = "/flywheel.v1.Decisions/Decide"

CONNECTIONS = 8
TIMEOUT_S = 1.0

AnyPool = GrpcPool | Http1Pool


@dataclass(frozen=True)
class Running:
    """A server that answers."""

    name: str
    address: str
    pool: Callable[[], AnyPool]
    """Connections to it, yet to be opened; request number n is about card n modulo `MESSAGES`."""
    score: Callable[[bytes], float]
    """What an answer says."""
    pid: int = 0
    settings: dict[str, str] = field(default_factory=dict)


@asynccontextmanager
async def opened(server: Running) -> AsyncIterator[AnyPool]:
    """Connections to it, open; closed at the end."""
    pool = server.pool()
    await pool.open()
    try:
        yield pool
    finally:
        await pool.close()


def cards() -> Iterator[str]:
    """Whom the requests are about, in their order."""
    return (f"card-{n % CARDS}" for n in range(MESSAGES))


@contextmanager
def ours(scene: Scene, *, cores: str = SERVER_CORE, told: dict[str, str] | None = None) -> Iterator[Running]:
    """The serving service as users start it, everything on."""
    tree = checkout(usecase.name, "from benchmarks.card_scoring import usecase as usecase")
    with serving(scene, usecase.name, tree, cores=cores, told=told or {}) as (pid, settings):
        address, requests = settings["FLYWHEEL_SERVING_ADDRESS"], decisions(cards())
        yield Running(
            "ours",
            address,
            lambda: GrpcPool(
                address, DECIDE, requests, connections=CONNECTIONS, timeout_s=TIMEOUT_S, judge=by_the_model
            ),
            lambda message: float(DecideResponse.FromString(message).score),
            pid,
            settings,
        )


@contextmanager
def serving(
    scene: Scene, name: str, tree: Path, *, cores: str = SERVER_CORE, told: dict[str, str] | None = None
) -> Iterator[tuple[int, dict[str, str]]]:
    """The process id and the settings of the serving service of that use case, started in that checkout."""
    settings = {**scene.settings, "FLYWHEEL_USECASE": name, "FLYWHEEL_WORLD_ENABLED": "false", **(told or {})}
    ready = HttpReady(f"http://127.0.0.1:{settings['FLYWHEEL_SERVING_METRICS_PORT']}/readyz")
    command = [sys.executable, "-m", "services.serving"]
    with running(name, command, ready, cores=cores, told=settings, directory=tree) as process:
        yield process.pid, settings


_NO_FALLBACK = DecideResponse(fallback="none").SerializeToString()


def by_the_model(message: bytes) -> bool:
    """Whether an answer of ours is no fallback; as cheap as it has to be in a load generator."""
    return _NO_FALLBACK in message


def subjects(of: Iterator[str]) -> Iterator[bytes]:
    """Payments of these cards, now."""
    now = datetime.now(UTC).isoformat()
    for number, card_id in enumerate(of):
        yield orjson.dumps({"event_id": f"p{number}", "event_time": now, "card_id": card_id, "amount_cents": 4_200})


def decisions(of: Iterator[str]) -> list[bytes]:
    """Requests for decisions about these cards, now."""
    return [DecideRequest(usecase=usecase.name, subject=each).SerializeToString() for each in subjects(of)]
