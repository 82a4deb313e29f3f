"""A table of several kinds of events brings each entity what it would alone."""

from __future__ import annotations

import pyarrow as pa

from flywheel.adapters.spark_arrivals import EVENT, OFFSET, PARTITION, TIE, TIME
from flywheel.kernel.durations import DAY_US
from flywheel.kernel.plan import TileView, compile_plan
from flywheel.kernel.ports import ViewKey
from flywheel.kernel.rows import event_hash, id_hash
from flywheel.kernel.state import Change
from services.features.arrivals import changes
from tests.wide_declaration import USECASE

PLAN = compile_plan(USECASE)
STALLS = next(view for view in PLAN.views if view.entity.name == "stall")
BIG = 1 << 53
COLUMNS = {
    EVENT: pa.string(),
    TIME: pa.int64(),
    TIE: pa.int64(),
    PARTITION: pa.int32(),
    OFFSET: pa.int64(),
    **{f"order__{name}": pa.string() for name in ("buyer", "seller", "shop")},
    **{f"order__{name}": pa.int64() for name in ("cents", "stall", "parcel")},
    "order__weight": pa.float64(),
    "refund__buyer": pa.string(),
    "refund__cents": pa.int64(),
    "refund__stall": pa.int64(),
}


def row(offset: int, name: str, **fields: object) -> dict[str, object]:
    found: dict[str, object] = dict.fromkeys(COLUMNS)
    tie = event_hash(name, str(offset))
    found |= {EVENT: name, TIME: 17_622 * DAY_US + offset, TIE: tie, PARTITION: 0, OFFSET: offset}
    return found | {f"{name}__{field}": value for field, value in {"buyer": "b", **fields}.items()}


def brought(*rows: dict[str, object]) -> dict[ViewKey, Change]:
    found: dict[TileView, dict[ViewKey, Change]] = dict(changes(PLAN, pa.Table.from_pylist(rows, pa.schema(COLUMNS))))
    return found[STALLS]


def test_whole_numbers_stay_whole_beside_events_without_them() -> None:
    found = brought(
        row(0, "order", stall=7, parcel=5, cents=1),
        row(1, "refund", stall=7, cents=1),
        row(2, "order", stall=BIG + 1, parcel=None, cents=1),
        row(3, "order", stall=BIG, parcel=BIG + 1, cents=1),
    )
    assert {key.entity_id for key in found} == {"7", str(BIG), str(BIG + 1)}
    hashed = next(n for n, source in enumerate(STALLS.sources, 3) if source.hashed)
    parcels = {key.entity_id: change.rows[:, hashed].tolist() for key, change in found.items()}
    assert parcels == {"7": [id_hash("5"), 0], str(BIG): [id_hash(str(BIG + 1))], str(BIG + 1): [0]}
