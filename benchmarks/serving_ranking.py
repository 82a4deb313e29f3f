"""Two hundred items ranked for a user: serving's `Rank` against the same by Feast's SDK behind FastAPI.

Both read twenty features of the user and of each item, nothing of it cached, from what Feast wrote into one Redis, run
the model (300 trees on forty features) once, and answer the best twenty. They take turns; the better of Feast's two
ways counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path

import numpy as np
import orjson
import uvloop

from benchmarks.figures import Figure
from benchmarks.serving_alternatives import PEERS
from benchmarks.serving_bench import Pace, tell
from benchmarks.serving_probes import HttpScores
from benchmarks.serving_processes import checkout, python_of, running
from benchmarks.serving_scene import Scene, make_topics
from benchmarks.serving_servers import CONNECTIONS, TIMEOUT_S, Running, opened, serving
from benchmarks.serving_stock import fill, model_of, publish
from flywheel.contracts.proto.ranking_pb2 import RankRequest, RankResponse
from infra.local.side_by_side import free_ports
from loadtests.generator.grpc_pool import GrpcPool
from loadtests.generator.http1_pool import Http1Pool
from loadtests.generator.load import one
from loadtests.generator.outcomes import Outcome
from tests.ranking_declaration import COLUMNS, USECASE

_RANK = "/flywheel.v1.Rankings/Rank"
_ENTITIES, _RANKED, _KEPT, _REQUESTS = 1_000, 200, 20, 256
_CALLERS = 8
_SECONDS = 6.0
_CHECKED = 5
_TOLERANCE = 1e-6
_PEER_WAYS = ("async", "sync")

Best = list[tuple[str, float]]

GOALS = {"rank200_vs_feast": ">= 6", "rank200_p99_ms_at_half": "<= 20"}


def measure(scene: Scene, pace: Pace) -> dict[str, Figure]:
    """Closed-loop capacity of both, and how quick ours is at half of it."""
    directory, model = scene.directory / "rank", model_of(2 * COLUMNS)
    rng = np.random.default_rng(9)
    tables = {t.name: rng.normal(size=(_ENTITIES, COLUMNS)).astype(np.float32) for t in USECASE.attribute_tables}
    fill(directory, scene.redis_port, USECASE, tables, model)
    make_topics(scene, USECASE)
    publish(scene.models, USECASE, "v1", model)
    best: dict[str, list[Best]] = {}
    found: dict[str, Figure] = {}
    for name, start in (("ours", ours), *((f"feast_{way}", _feast_by(way)) for way in _PEER_WAYS)):
        tell(f"ranking by {name}")
        with start(scene) as server:
            best[name], figures = uvloop.run(_of_server(server, pace))
        found |= {f"rank200_{what}_{name}": value for what, value in figures.items()}
    for way in _PEER_WAYS:
        _check(best["ours"], best[f"feast_{way}"])
    rates = {name: found[f"rank200_rps_{name}"] for name in best}
    feast = max(float(rates[f"feast_{way}"] or 0) for way in _PEER_WAYS)
    return {
        "rank200_vs_feast": round(float(rates["ours"] or 0) / feast, 2),
        "rank200_p99_ms_at_half": found["rank200_p99_ms_at_half_ours"],
        **found,
    }


async def _of_server(server: Running, pace: Pace) -> tuple[list[Best], dict[str, Figure]]:
    async with opened(server) as pool:
        best = []
        for number in range(_CHECKED):
            outcome = await one(pool, number)
            assert outcome is Outcome.GOOD, f"{server.name} answers {outcome.name}: {pool.statuses}"
            best.append(_BEST[server.name.partition("_")[0]](pool.last_answer))
        await pace.capacity(pool, callers=_CALLERS, seconds=_SECONDS / 2)
        closed = await pace.capacity(pool, callers=_CALLERS, seconds=_SECONDS)
        p50_ms, p99_ms = await pace.percentiles(pool, closed.rate_per_s / 2)
    shown = (round(p99_ms, 2) if isfinite(p99_ms) else None, round(p50_ms, 2) if isfinite(p50_ms) else None)
    return best, {"rps": round(closed.rate_per_s, 1), "p99_ms_at_half": shown[0], "p50_ms_at_half": shown[1]}


@contextmanager
def ours(scene: Scene) -> Iterator[Running]:
    """The serving service with a use case that ranks."""
    tree = checkout(USECASE.name, "from tests.ranking_declaration import USECASE as usecase")
    with serving(scene, USECASE.name, tree) as (pid, settings):
        address, now = settings["FLYWHEEL_SERVING_ADDRESS"], datetime.now(UTC).isoformat()
        messages = []
        for number, (user, items) in enumerate(_asked()):
            subject = {"event_id": f"i{number}", "event_time": now, "user_id": user, "page": 1}
            asked = RankRequest(usecase=USECASE.name, subject=orjson.dumps(subject), candidates=items, keep=_KEPT)
            messages.append(asked.SerializeToString())

        def pool() -> GrpcPool:
            judge = lambda message: _NO_FALLBACK in message  # noqa: E731
            return GrpcPool(address, _RANK, messages, connections=CONNECTIONS, timeout_s=TIMEOUT_S, judge=judge)

        yield Running("ours", address, pool, lambda _: 0.0, pid, settings)


_NO_FALLBACK = RankResponse(fallback="none").SerializeToString()


def _feast_by(way: str) -> Callable[[Scene], AbstractContextManager[Running]]:
    @contextmanager
    def start(scene: Scene) -> Iterator[Running]:
        (port,) = free_ports(1)
        address = f"127.0.0.1:{port}"
        bodies = [orjson.dumps({"user_id": user, "item_ids": items, "keep": _KEPT}) for user, items in _asked()]
        command = [python_of("fastapi"), str(PEERS / "fastapi_rank.py"), str(port), way]
        told = {"SCENE": str(scene.directory / "rank")}
        ready = HttpScores(f"http://{address}/rank", bodies[0])
        with running(f"feast_{way}", command, ready, told=told, directory=Path(PEERS)) as process:
            yield Running(
                f"feast_{way}", address, lambda: Http1Pool(address, "/rank", bodies), lambda _: 0.0, process.pid
            )

    return start


def _asked() -> Iterator[tuple[str, list[str]]]:
    """Users, and two hundred different items for each."""
    rng = np.random.default_rng(21)
    for _ in range(_REQUESTS):
        items = rng.choice(_ENTITIES, _RANKED, replace=False)
        yield f"user-{rng.integers(_ENTITIES)}", [f"item-{item}" for item in items]


def _ranked(message: bytes) -> Best:
    return [(each.candidate, each.score) for each in RankResponse.FromString(message).ranked]


def _listed(message: bytes) -> Best:
    answer = orjson.loads(message)
    return list(zip(answer["item_ids"], answer["scores"], strict=True))


_BEST: dict[str, Callable[[bytes], Best]] = {"ours": _ranked, "feast": _listed}


def _check(ours: Sequence[Best], theirs: Sequence[Best]) -> None:
    """Raises AssertionError unless both rank alike."""
    for mine, other in zip(ours, theirs, strict=True):
        assert [item for item, _ in mine] == [item for item, _ in other]
        for (_, score), (_, their) in zip(mine, other, strict=True):
            assert abs(score - their) <= _TOLERANCE
