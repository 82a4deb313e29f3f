"""Loads in the lake: what each request knew is what a loop over all loads finds, the newest is what goes online."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO, NamedTuple

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.adapters import parquet_erasure
from flywheel.adapters.attribute_lake import FOLDER, AttributeLake
from flywheel.adapters.memory_store import MemoryFeatureStore
from flywheel.adapters.parquet_erasure import Rows
from flywheel.adapters.point_in_time import JoinLimits
from flywheel.contracts.events import to_us
from flywheel.kernel.attributes import ONLINE_WITHIN_US, AttributeRow, AttributeTable
from flywheel.kernel.durations import DAY_US
from tests.attribute_scene import PLAN, PROFILE, PROFILE_DEFAULT, TRUST, VALID_US, profile

START = datetime(2018, 4, 1, tzinfo=UTC)
START_US = to_us(START)
LONGEST_DAYS = 70


class Load(NamedTuple):
    loaded_day: int
    rows: Sequence[AttributeRow]


class Asked(NamedTuple):
    terminal: str
    at_us: int
    arrived_us: int
    backfilled: bool


def lake_at(directory: Path) -> AttributeLake:
    return AttributeLake(directory, JoinLimits(64, directory / "spill", threads=1))


def table_of(asked: Sequence[Asked]) -> pa.Table:
    moment = pa.timestamp("us", "UTC")
    return pa.table(
        {
            "terminal_id": [one.terminal for one in asked],
            "card_id": ["c1"] * len(asked),
            "event_timestamp": pa.array([one.at_us for one in asked], moment),
            "ingest_time": pa.array([one.arrived_us for one in asked], moment),
            "backfilled": [one.backfilled for one in asked],
        }
    )


def known(loads: Sequence[Load], asked: Asked, until_us: int, column: int) -> float:
    """By the definition, load by load."""
    seen = None
    for load in loads:
        loaded_us = START_US + load.loaded_day * DAY_US
        if asked.backfilled:
            usable = [row for row in load.rows if loaded_us <= until_us and row.as_of_us <= asked.at_us]
        else:
            usable = [row for row in load.rows if loaded_us + ONLINE_WITHIN_US <= asked.arrived_us]
        for row in usable:
            if row.key == (asked.terminal,):
                seen = max(seen or (row.as_of_us, loaded_us, row), (row.as_of_us, loaded_us, row), key=lambda s: s[:2])
    if seen is None or not 0 <= asked.at_us - seen[0] <= VALID_US:
        return PROFILE_DEFAULT
    value = seen[2].values[column]
    return PROFILE_DEFAULT if value is None else value


TERMINALS = st.sampled_from(["t1", "t2", "it's"])
DAYS = st.integers(0, LONGEST_DAYS)
NUMBERS = st.one_of(st.none(), st.floats(-1e6, 1e6))
ROWS = st.lists(
    st.builds(lambda t, day, a, b: profile(t, START_US + day * DAY_US, a, b), TERMINALS, DAYS, NUMBERS, NUMBERS),
    min_size=1,
    max_size=6,
    unique_by=lambda row: (row.key, row.as_of_us),
)
LOADS = st.lists(st.builds(Load, DAYS, ROWS), max_size=4, unique_by=lambda load: load.loaded_day)
ASKED = st.lists(
    st.builds(
        lambda terminal, day, offset_us, waits, late_us, backfilled: Asked(
            terminal, START_US + day * DAY_US + offset_us, START_US + (day + waits) * DAY_US + late_us, backfilled
        ),
        st.one_of(TERMINALS, st.just("never")),
        DAYS,
        st.sampled_from([-1, 0, 1]),
        st.integers(0, 30),
        st.sampled_from([0, ONLINE_WITHIN_US - 1, ONLINE_WITHIN_US]),
        st.booleans(),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=60)
@given(LOADS, ASKED, DAYS)
def test_a_request_knows_what_a_loop_over_the_loads_finds(
    tmp_path_factory: pytest.TempPathFactory, loads: list[Load], asked: list[Asked], until_day: int
) -> None:
    lake = lake_at(tmp_path_factory.mktemp("lake"))
    for load in loads:
        lake.append(PROFILE, load.rows, START + timedelta(days=load.loaded_day))
    until = START + timedelta(days=until_day)
    requests = table_of(asked)
    found = lake.known_at(requests, (PROFILE,), loaded_until=until)
    assert found.select(requests.column_names).equals(requests)
    for column, name in enumerate(("terminal_floor_limit_cents", "terminal_opened_days")):
        assert found[name].to_pylist() == [known(loads, one, to_us(until), column) for one in asked]


def test_the_newest_of_each_entity_goes_online_whatever_was_loaded_last(tmp_path: Path) -> None:
    lake, store = lake_at(tmp_path), MemoryFeatureStore(PLAN)
    lake.append(PROFILE, [profile("t1", START_US + DAY_US, 1.0), profile("t2", START_US, 2.0)], START)
    older = lake.append(PROFILE, [profile("t1", START_US, 3.0), profile("t3", START_US, None)], START)
    assert lake.publish(PROFILE, store, lambda _: None, of=older) == 2
    online = {row.key[0]: row for rows in lake.newest(PROFILE) for row in rows}
    assert {key: row.values[0] for key, row in online.items()} == {"t1": 1.0, "t2": 2.0, "t3": None}
    of_older = {row.key[0] for rows in lake.newest(PROFILE, of=older) for row in rows}
    assert of_older == {"t1", "t3"}


def test_ids_of_several_fields_and_columns_that_were_declared_later(tmp_path: Path) -> None:
    lake = lake_at(tmp_path)
    lake.append(TRUST, [AttributeRow(("t1", "c1"), START_US, (0.5,))], START)
    arrived_us = START_US + ONLINE_WITHIN_US
    asked = table_of([Asked("t1", START_US, arrived_us, False), Asked("t2", START_US, arrived_us, False)])
    assert lake.known_at(asked, (TRUST,))["pair_share"].to_pylist() == [0.5, 0.0]
    narrow = AttributeTable(PROFILE.name, PROFILE.entity, PROFILE.valid_us, PROFILE.features[:1])
    lake.append(narrow, [AttributeRow(("t1",), START_US, (9.0,))], START)
    found = lake.known_at(asked, (PROFILE,))
    assert found["terminal_floor_limit_cents"].to_pylist() == [9.0, PROFILE_DEFAULT]
    assert found["terminal_opened_days"].to_pylist() == [PROFILE_DEFAULT, PROFILE_DEFAULT]


def test_an_erased_entity_goes_from_the_loads(tmp_path: Path) -> None:
    lake = lake_at(tmp_path)
    lake.append(PROFILE, [profile("t1", START_US), profile("t2", START_US)], START)
    lake.append(TRUST, [AttributeRow(("t1", "c1"), START_US, (0.5,))], START)
    assert parquet_erasure.remove(tmp_path / FOLDER, Rows([{"terminal_id": "t1"}], until_us=START_US)) == 2
    assert [row.key for rows in lake.newest(PROFILE) for row in rows] == [("t2",)]
    assert list(lake.newest(TRUST)) == []


def test_a_load_that_was_killed_is_seen_by_no_reader_and_goes_with_the_next_erasure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(_rows: pa.Table, sink: BinaryIO) -> None:
        sink.write(b"t1, half")
        raise KeyboardInterrupt

    lake = lake_at(tmp_path)
    monkeypatch.setattr(pq, "write_table", killed)
    with pytest.raises(KeyboardInterrupt):
        lake.append(PROFILE, [profile("t1", START_US)], START)
    directory = tmp_path / FOLDER / PROFILE.name
    assert [file.read_bytes() for file in directory.iterdir()] == [b"t1, half"]
    assert list(lake.newest(PROFILE)) == []
    # As Feast finds the files; DuckDB's pattern takes hidden ones, too.
    assert duckdb.execute(f"SELECT * FROM glob('{directory}/*.parquet')").fetchall() == []
    assert parquet_erasure.sweep(tmp_path) == 1
    assert list(directory.iterdir()) == []
