"""The trainer's own wiring of a retrieval, by either join: windows of the history's snapshot, attributes as loaded."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flywheel.adapters import feast_fold
from flywheel.adapters.attribute_lake import AttributeLake
from flywheel.adapters.history_layout import snapshot_directory
from flywheel.adapters.point_in_time import JoinLimits
from flywheel.contracts.events import to_us
from flywheel.contracts.training import HistoryBuilt
from flywheel.kernel import catalog
from services.trainer.bootstrap import _retrieval
from services.trainer.settings import TrainerSettings
from tests.attribute_scene import PLAN, PROFILE, USECASE, profile
from tests.feast_warnings import FEAST_WARNS

AT = datetime(2018, 6, 1, tzinfo=UTC)
ARRIVED_UNTIL = AT + timedelta(days=3)
FLOOR = "terminal_floor_limit_cents"
TIME = pa.timestamp("us", "UTC")
HISTORY = HistoryBuilt(
    request_id="r", snapshot_id="s1", path="", event_time_until=AT, arrived_until=ARRIVED_UNTIL, rows=2, reason="test"
)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Histories of two snapshots and three loads: before the requests, before the history was built, and after it."""
    for view in PLAN.views:
        for number, snapshot in enumerate(("s0", HISTORY.snapshot_id)):
            directory = snapshot_directory(TrainerSettings(data_dir=tmp_path), PLAN, view, snapshot)
            directory.mkdir(parents=True)
            ids = {name: [f"{name[0]}1"] * 2 for name in view.entity.keys}
            values = {f.name: [100.0 * number + n, 100.0 * number + n] for n, f in enumerate(view.features)}
            fixed = {
                "event_id": ["live", "loaded"],
                "event_timestamp": moments(AT, AT + timedelta(seconds=1)),
                "created_timestamp": moments(AT, AT),
            }
            pq.write_table(pa.table(ids | fixed | values), directory / "part-0.parquet")
    lake = AttributeLake(tmp_path / "lake" / "fraud", JoinLimits(128, tmp_path / "spill"))
    as_of_us = to_us(AT - timedelta(days=1))
    lake.append(PROFILE, [profile("t1", as_of_us, limit=1.0)], AT - timedelta(hours=1))
    lake.append(PROFILE, [profile("t1", as_of_us + 1, limit=2.0)], ARRIVED_UNTIL - timedelta(hours=1))
    lake.append(PROFILE, [profile("t1", as_of_us + 2, limit=3.0)], ARRIVED_UNTIL + timedelta(hours=1))
    return tmp_path


def moments(*times: datetime) -> pa.Array:
    return pa.array([to_us(time) for time in times]).cast(TIME)


REQUESTS = pa.table(
    {
        "event_id": ["live", "loaded"],
        "event_timestamp": moments(AT, AT + timedelta(seconds=1)),
        "ingest_time": moments(AT, AT + timedelta(days=2)),
        "backfilled": [False, True],
        "card_id": ["c1", "c1"],
        "terminal_id": ["t1", "t1"],
    }
)


@pytest.mark.parametrize("join", ["duckdb", pytest.param("feast", marks=FEAST_WARNS)])
@pytest.mark.usefixtures("feast_environment")
def test_a_retrieval_has_windows_of_the_snapshot_and_attributes_loaded_until_then(
    data: Path, join: Literal["duckdb", "feast"], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "load", lambda _name: USECASE)
    feast_fold._compiled.cache_clear()
    settings = TrainerSettings(data_dir=data, training_join=join, training_join_memory_mib=256)
    found = _retrieval(settings, USECASE, HISTORY)(REQUESTS).sort_by("event_id")
    feast_fold._compiled.cache_clear()
    rows = {name: found[name].to_pylist() for name in found.column_names}
    assert rows["event_id"] == ["live", "loaded"]
    for view in PLAN.views:
        assert [rows[feature.name] for feature in view.features] == [
            [100.0 + n, 100.0 + n] for n in range(len(view.features))
        ]
    # What came live saw what had been loaded by then; what was backfilled all that was there for the history.
    assert rows[FLOOR] == [1.0, 2.0]
    assert rows["card_rank"] == [-2.0, -2.0]
