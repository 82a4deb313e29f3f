"""Windowed features of one card, read and folded: where the time goes.

Twenty features, four windows each of five statistics, of a card with some hundred payments; the same of a busy card,
whose newest payments are still on its edge; and the statistics that cannot be added up, of that busy card.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Mapping

import numpy as np

from benchmarks.figures import Figure
from flywheel.adapters.feast_layout import decode_value, encode_value
from flywheel.adapters.redis_connection import RedisConnection, pack
from flywheel.kernel import aggregation as agg
from flywheel.kernel.durations import DAY_US, MINUTE_US
from flywheel.kernel.edge import pack_edge
from flywheel.kernel.features import Entity
from flywheel.kernel.fold import Reading
from flywheel.kernel.hydration import opened
from flywheel.kernel.plan import TileView, view_of
from flywheel.kernel.ports import Stored
from flywheel.kernel.rows import Cells, event_hash, rows_of
from flywheel.kernel.state import Change, EntityState, apply
from usecases.fraud.events import Transaction

_NOW_US = 17_700 * DAY_US + 12_345_678
_WINDOWS = ("10m", "24h", "7d", "30d")
_CARD = Entity("card", key="card_id")


async def windowed_read(url: str, reads: int = 3_000) -> Mapping[str, Figure]:
    """Medians in milliseconds of the whole read and of its parts, one at a time, and the sizes; for each of the cases
    `windowed`, `windowed_busy` and `windowed_others`."""
    connection = RedisConnection(url)
    additive, others = _additive(), _others()
    busy = {"events": 2_000, "on_edge": 50}
    found = {
        **await _measured(connection, "windowed", additive, stored(additive, events=300, on_edge=0), reads),
        **await _measured(connection, "windowed_busy", additive, stored(additive, **busy), reads),
        **await _measured(connection, "windowed_others", others, stored(others, **busy), reads),
    }
    await connection.close()
    return found


def _additive() -> TileView:
    amount = "amount_cents"
    words = (
        agg.count(Transaction),
        agg.total(Transaction, amount),
        agg.mean(Transaction, amount),
        agg.largest(Transaction, amount),
        agg.stddev(Transaction, amount),
    )
    return view_of("bench_card_tiles", _CARD, tuple(f for word in words for f in word.by(_CARD).over(*_WINDOWS)))


def _others() -> TileView:
    words = (
        agg.distinct(Transaction, "terminal_id"),
        agg.last(Transaction, "amount_cents"),
        agg.since_last(Transaction),
        agg.decayed_count(Transaction, "1h"),
    )
    return view_of("bench_others_tiles", _CARD, tuple(f for word in words for f in word.by(_CARD).over(*_WINDOWS)))


def stored(view: TileView, *, events: int, on_edge: int) -> Stored:
    """A card with so many payments in the last thirty days, and so many more in the last minute, not absorbed yet."""
    rng = np.random.default_rng(5)
    before = np.sort(_NOW_US - MINUTE_US - rng.integers(0, 30 * DAY_US - MINUTE_US, events))
    newest = np.sort(_NOW_US - rng.integers(0, MINUTE_US, on_edge))
    rows = _rows(view, np.concatenate([before, newest]), rng)
    (state,), _ = apply(view, [EntityState.empty(view)], [Change(rows[:events], {0: events})])
    return Stored(state.pack(view), pack_edge(view, rows[events:]) if on_edge else None)


def _rows(view: TileView, times_us: Cells, rng: np.random.Generator) -> Cells:
    number = len(times_us)
    ties = np.array([event_hash("transaction", str(n)) for n in range(number)], np.int64)
    columns = {
        "card_id": np.array(["c"] * number, object),
        "terminal_id": np.array([f"t{n}" for n in rng.integers(0, 500, number)], object),
        "amount_cents": rng.integers(1, 50_000, number),
    }
    return rows_of(view, Transaction, columns, times_us, ties, np.arange(number))[1]


async def _measured(
    connection: RedisConnection, name: str, view: TileView, held: Stored, reads: int
) -> dict[str, Figure]:
    reading = Reading(view)
    values = [(field, value) for field, value in (("state", held.state), ("edge", held.edge)) if value is not None]
    await connection.execute(
        pack(("DEL", name), *(("HSET", name, field, encode_value(value)) for field, value in values)), 5.0
    )
    question = pack(("HMGET", name, "state", "edge"))
    parts: dict[str, list[float]] = {"fetch": [], "unpack": [], "fold": [], "whole": []}
    gc.freeze()
    for number in range(reads):
        t0 = time.perf_counter()
        (answer,) = await connection.execute(question, 5.0)
        t1 = time.perf_counter()
        state, arrived = opened(view, Stored(*(None if value is None else decode_value(value) for value in answer)))
        t2 = time.perf_counter()
        reading.values(state, arrived, _NOW_US + number)
        t3 = time.perf_counter()
        for part, took_s in zip(parts, (t1 - t0, t2 - t1, t3 - t2, t3 - t0), strict=True):
            parts[part].append(took_s * 1e3)
    gc.unfreeze()
    found: dict[str, Figure] = {f"read_{name}_{part}_p50_ms": float(np.median(taken)) for part, taken in parts.items()}
    found[f"read_{name}_p50_ms"] = found.pop(f"read_{name}_whole_p50_ms")
    return found | {
        f"read_{name}_p99_ms": float(np.percentile(parts["whole"], 99)),
        f"read_{name}_state_bytes": len(held.state or b""),
        f"read_{name}_edge_bytes": len(held.edge or b""),
        f"read_{name}_features": len(view.features),
    }


def run(url: str) -> Mapping[str, Figure]:
    """`windowed_read` on a loop of its own."""
    return asyncio.run(windowed_read(url))
