"""Twenty windowed features of one card, four windows each of five statistics, read and folded: where the time goes."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Mapping

import numpy as np

from flywheel.adapters.feast_layout import decode_value, encode_value
from flywheel.adapters.redis_connection import RedisConnection, pack
from flywheel.kernel import aggregation as agg
from flywheel.kernel.durations import DAY_US
from flywheel.kernel.features import Entity
from flywheel.kernel.fold import Reading
from flywheel.kernel.plan import TileView, view_of
from flywheel.kernel.rows import event_hash, rows_of
from flywheel.kernel.state import Change, EntityState, apply
from usecases.fraud.events import Transaction

_EVENTS = 300
_NOW_US = 17_700 * DAY_US + 12_345_678
_WINDOWS = ("10m", "24h", "7d", "30d")


async def windowed_read(url: str, reads: int = 3_000) -> Mapping[str, float]:
    """Medians in milliseconds of the whole read and of its parts, one at a time, and the state's size."""
    card = Entity("card", key="card_id")
    amount = "amount_cents"
    words = (
        agg.count(Transaction),
        agg.total(Transaction, amount),
        agg.mean(Transaction, amount),
        agg.largest(Transaction, amount),
        agg.stddev(Transaction, amount),
    )
    view = view_of("bench_card_tiles", card, tuple(f for word in words for f in word.by(card).over(*_WINDOWS)))
    reading, packed = Reading(view), _state(view)
    connection = RedisConnection(url)
    await connection.execute(pack(("HSET", "windowed", "state", encode_value(packed))), 5.0)
    question = pack(("HMGET", "windowed", "state", "edge"))
    parts: dict[str, list[float]] = {"fetch": [], "unpack": [], "fold": [], "whole": []}
    gc.freeze()
    for number in range(reads):
        t0 = time.perf_counter()
        ((state, _),) = await connection.execute(question, 5.0)
        t1 = time.perf_counter()
        unpacked = EntityState.unpack(view, decode_value(state))
        t2 = time.perf_counter()
        reading.values(unpacked, unpacked.raw[:0], _NOW_US + number)
        t3 = time.perf_counter()
        for name, took_s in zip(parts, (t1 - t0, t2 - t1, t3 - t2, t3 - t0), strict=True):
            parts[name].append(took_s * 1e3)
    gc.unfreeze()
    await connection.close()
    found = {f"read_windowed_{name}_p50_ms": float(np.median(taken)) for name, taken in parts.items()}
    found["read_windowed_p50_ms"] = found.pop("read_windowed_whole_p50_ms")
    found["read_windowed_p99_ms"] = float(np.percentile(parts["whole"], 99))
    return found | {"read_windowed_state_bytes": len(packed), "read_windowed_features": len(view.features)}


def _state(view: TileView) -> bytes:
    """Of a card with some hundred payments in the last thirty days."""
    rng = np.random.default_rng(5)
    times = _NOW_US - np.sort(rng.integers(0, 30 * DAY_US, _EVENTS))[::-1]
    ties = np.array([event_hash("transaction", str(n)) for n in range(_EVENTS)], np.int64)
    columns = {
        "card_id": np.array(["c"] * _EVENTS, object),
        "amount_cents": rng.integers(1, 50_000, _EVENTS),
    }
    _, rows = rows_of(view, Transaction, columns, times, ties, np.arange(_EVENTS))
    (state,), _ = apply(view, [EntityState.empty(view)], [Change(rows, {0: _EVENTS})])
    return state.pack(view)


def run(url: str) -> Mapping[str, float]:
    """`windowed_read` on a loop of its own."""
    return asyncio.run(windowed_read(url))
