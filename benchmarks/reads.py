"""Measures the fast read of plain stored features beside Feast's SDK and beside raw Redis, in one process and one run.

All sides read the same bytes of one Redis, written by Feast, and take turns of some requests each. What they do:

- ours: `RedisStoredReader.read` encodes keys and decodes the answer into arrays, with statuses and ages;
- raw: redis-py on hiredis sends the same HMGETs with keys encoded beforehand, one by a plain call, several by one
  pipeline without a transaction, and leaves the replies as bytes; the faster of its sync and async client counts;
- Feast: `get_online_features` with keys in columns, its answer not brought into a table; the faster of its sync and
  async call counts, and for its rate also a single thread's, which is what the sync call takes at best.

`python -m benchmarks.reads --quick` takes a tenth of the samples and writes no figures.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import redis
import redis.asyncio
import uvloop
from numpy.typing import NDArray

from benchmarks import figures
from benchmarks.paired import Side, frozen, latencies_ms, rates_per_s
from benchmarks.reads_scene import PROJECT, Scenario, filled_feast, running_redis, scenarios
from flywheel.adapters.redis_connection import RedisConnection
from flywheel.adapters.redis_stored import RedisStoredReader

_TIMEOUT_S = 10.0
_IN_FLIGHT = 64
_WARM_ROUNDS = 3
_ROUNDS = {"1x25": 200, "1x25_5views": 150, "rank200": 100}
_TURN = {"1x25": 20, "1x25_5views": 20, "rank200": 10}
_RATE_ROUNDS = 5
_RATE_ROUND_S = 1.5
_RAW = ("raw_sync", "raw_async")
_FEAST = ("feast_sync", "feast_async")
_GOALS = {
    "read_1x25_p50_vs_raw": "<= 1.3",
    "read_1x25_rps_vs_feast": ">= 5",
    "read_1x25_5views_p50_vs_raw": "<= 1.5",
    "read_rank200_p50_vs_raw": "<= 1.3",
    "read_rank200_p99_vs_feast": "<= 0.25",
}


class Clients:
    """Every side's client on one Redis."""

    def __init__(self, port: int, feast: Any) -> None:
        self._connection = RedisConnection(f"redis://127.0.0.1:{port}/0")
        self._sync: Any = redis.Redis(port=port)
        self._async: Any = redis.asyncio.Redis(port=port)
        self._feast = feast

    def sides(self, scene: Scenario) -> dict[str, Side]:
        """What each side does for a scenario's requests."""
        reader = RedisStoredReader(self._connection, PROJECT, scene.plan)
        hashes = [scene.hashes(request) for request in scene.requests]
        rows = [scene.rows(request) for request in scene.requests]
        names = list(scene.plan.features)
        count = len(scene.requests)
        sync_read, async_read = self._feast.get_online_features, self._feast.get_online_features_async
        return {
            "ours": Side(lambda n: reader.read(scene.requests[n % count], _TIMEOUT_S), asynchronous=True),
            "raw_sync": Side(lambda n: _raw(self._sync, hashes[n % count]), asynchronous=False),
            "raw_async": Side(lambda n: _raw(self._async, hashes[n % count]), asynchronous=True),
            "feast_sync": Side(lambda n: sync_read(names, rows[n % count]), asynchronous=False),
            "feast_async": Side(lambda n: async_read(names, rows[n % count]), asynchronous=True),
        }

    async def close(self) -> None:
        """Lets go of all of them."""
        await self._connection.close()
        await self._async.aclose()
        await self._feast.close()
        self._sync.close()


def _raw(client: Any, hashes: list[tuple[bytes, list[bytes]]]) -> Any:
    if len(hashes) == 1:
        return client.hmget(*hashes[0])
    pipe = client.pipeline(transaction=False)
    for key, fields in hashes:
        pipe.hmget(key, fields)
    return pipe.execute()


async def check(scene: Scenario, sides: dict[str, Side]) -> None:
    """Raises AssertionError unless ours and Feast answer alike, and with numbers."""
    for number in range(5):
        ours = (await sides["ours"].ask(number)).values
        answer = sides["feast_sync"].ask(number).to_dict()
        columns = [answer[name.split(":")[1]] for name in scene.plan.features]
        np.testing.assert_array_equal(ours, np.array(columns, np.float64).T)
        assert np.isfinite(ours).all()


async def measure(clients: Clients, share: float) -> dict[str, figures.Figure]:
    """The figures, from that share of the samples."""
    scenes = scenarios()
    sides = {name: clients.sides(scene) for name, scene in scenes.items()}
    for name, scene in scenes.items():
        await check(scene, sides[name])
        await latencies_ms(sides[name], _WARM_ROUNDS, _TURN[name])
    found: dict[str, figures.Figure] = {"read_load_average_before": round(os.getloadavg()[0], 2)}
    with frozen():
        for name in scenes:
            found |= _latency_figures(name, await latencies_ms(sides[name], int(_ROUNDS[name] * share), _TURN[name]))
        found |= await _rate_figures(sides["1x25"], share)
    return found


def _latency_figures(name: str, taken: dict[str, NDArray[np.float64]]) -> dict[str, figures.Figure]:
    p50, p99 = ({side: float(np.percentile(each, q)) for side, each in taken.items()} for q in (50, 99))
    raw_p50, feast_p50, feast_p99 = min(p50[s] for s in _RAW), min(p50[s] for s in _FEAST), min(p99[s] for s in _FEAST)
    found: dict[str, figures.Figure] = {
        f"read_{name}_p50_vs_raw": round(p50["ours"] / raw_p50, 3),
        f"read_{name}_p50_vs_feast": round(p50["ours"] / feast_p50, 3),
        f"read_{name}_p99_vs_feast": round(p99["ours"] / feast_p99, 3),
    }
    for side in taken:
        found[f"read_{name}_{side}_p50_ms"] = round(p50[side], 4)
        found[f"read_{name}_{side}_p99_ms"] = round(p99[side], 4)
    return {**found, f"read_{name}_samples_a_side": len(taken["ours"])}


async def _rate_figures(sides: dict[str, Side], share: float) -> dict[str, figures.Figure]:
    async def rates(names: tuple[str, ...], in_flight: int) -> dict[str, float]:
        chosen = {name: sides[name] for name in names}
        measured = await rates_per_s(
            chosen, in_flight=in_flight, rounds=max(1, round(_RATE_ROUNDS * share)), round_s=_RATE_ROUND_S
        )
        return {name: float(np.median(each)) for name, each in measured.items()}

    waiting = await rates(("ours", "raw_async", *_FEAST), _IN_FLIGHT)
    waiting["feast_one_thread"] = (await rates(("feast_sync",), 1))["feast_sync"]
    best_feast = max(rate for name, rate in waiting.items() if name.startswith("feast"))
    return {
        "read_1x25_rps_vs_feast": round(waiting["ours"] / best_feast, 2),
        **{f"read_1x25_{name}_rps": round(rate) for name, rate in waiting.items()},
        "read_1x25_rps_in_flight": _IN_FLIGHT,
        "read_1x25_rps_rounds": max(1, round(_RATE_ROUNDS * share)),
    }


async def _run(port: int, feast: Any, share: float) -> dict[str, figures.Figure]:
    clients = Clients(port, feast)
    try:
        return await measure(clients, share)
    finally:
        await clients.close()


def main() -> None:
    """Measures and, unless it was a quick look, writes the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reads", description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the samples, and no figures written")
    share = 0.1 if parser.parse_args().quick else 1.0
    with tempfile.TemporaryDirectory(prefix="flywheel-reads-") as scratch, running_redis(Path(scratch)) as port:
        found = uvloop.run(_run(port, filled_feast(Path(scratch), port, scenarios()), share))
    for name, value in found.items():
        print(f"{name:40} {value}  {_GOALS.get(name, '')}")
    if share == 1.0:
        print(figures.write("features-reads", found, _GOALS))


if __name__ == "__main__":
    main()
