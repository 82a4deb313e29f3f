"""The point-in-time join against a loop over all rows."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pyarrow as pa
import pytest

from flywheel.adapters.point_in_time import HistorySource, HistoryUnusable, JoinLimits, join_point_in_time
from tests.history_rows import SECOND_US, Past, draw_history, draw_requests, seen_by_definition, write_history

SPAN_S = 40


def source_of(directory: Path, key: str, *, ttl_us: int | None = None, own_id: str | None = None) -> HistorySource:
    return HistorySource(key, directory, ((key, key),), (f"{key}_value", f"{key}_value_doubled"), ttl_us, own_id)


def expect(joined: pa.Table, source: HistorySource, history: list[Past], requests: pa.Table) -> None:
    """Every cell is what the definition says, and what the request brought along is untouched."""
    assert joined.select(requests.column_names).equals(requests)
    wanted = seen_by_definition(source, history, requests)
    for feature, factor in zip(source.features, (1, 2), strict=True):
        values = [None if past is None else past.value * factor for past in wanted]
        for found, value in zip(joined[feature].to_pylist(), values, strict=True):
            assert found == value or (value is not None and math.isnan(found) and math.isnan(value))


@pytest.mark.parametrize("seed", range(4))
def test_every_request_sees_the_row_that_a_loop_finds(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    cards = draw_history(rng, "c", 300, entities=6, span_s=SPAN_S)
    terminals = draw_history(rng, "t", 200, entities=4, span_s=SPAN_S)
    write_history(tmp_path / "cards", "card_id", "card_id_value", cards, files=1 + seed)
    write_history(tmp_path / "terminals", "terminal_id", "terminal_id_value", terminals, files=3)
    requests = draw_requests(rng, 400, entities=8, span_s=SPAN_S + 30)
    by_card = source_of(tmp_path / "cards", "card_id", ttl_us=7 * SECOND_US)
    by_terminal = source_of(tmp_path / "terminals", "terminal_id")
    joined = join_point_in_time(requests, [by_card, by_terminal], JoinLimits(64, tmp_path / "spill", threads=2))
    expect(joined, by_card, cards, requests)
    expect(joined, by_terminal, terminals, requests)
    values = joined["card_id_value"]
    assert 0 < values.null_count < len(values)


def test_of_several_rows_at_one_moment_a_request_sees_its_own(tmp_path: Path) -> None:
    rng = random.Random(9)
    history = draw_history(rng, "c", 300, entities=3, span_s=10)
    write_history(tmp_path / "cards", "card_id", "card_id_value", history, files=4)
    own = rng.sample(history, 100)
    requests = pa.table(
        {
            "event_id": [past.event_id for past in own[:80]] + [f"unknown {number}" for number in range(20)],
            "card_id": [past.entity for past in own],
            "event_timestamp": pa.array([past.at_us for past in own]).cast(pa.timestamp("us", "UTC")),
        }
    )
    source = source_of(tmp_path / "cards", "card_id", own_id="event_id")
    joined = join_point_in_time(requests, [source], JoinLimits(64, tmp_path / "spill"))
    expect(joined, source, history, requests)
    newest = join_point_in_time(requests, [source_of(tmp_path / "cards", "card_id")], JoinLimits(64, tmp_path / "s"))
    assert not newest["card_id_value"].equals(joined["card_id_value"])


def test_a_value_exactly_as_old_as_its_ttl_is_still_seen(tmp_path: Path) -> None:
    history = [Past("c1", 0, 0, "e", 5.0)]
    write_history(tmp_path / "cards", "card_id", "card_id_value", history, files=1)
    times_us = pa.array([10, 11]).cast(pa.timestamp("us", "UTC"))
    requests = pa.table({"card_id": ["c1", "c1"], "event_timestamp": times_us})
    source = source_of(tmp_path / "cards", "card_id", ttl_us=10)
    joined = join_point_in_time(requests, [source], JoinLimits(64, tmp_path / "spill"))
    assert joined["card_id_value"].to_pylist() == [5.0, None]


def test_a_key_of_several_fields_under_other_names(tmp_path: Path) -> None:
    write_history(tmp_path / "pairs", "payer", "value", [Past("a", 0, 0, "b", 1.0), Past("a", 1, 0, "c", 2.0)], files=1)
    keys = (("card_id", "payer"), ("shop", "event_id"))
    source = HistorySource("pairs", tmp_path / "pairs", keys, ("value",))
    times_us = pa.array([9, 9, 9]).cast(pa.timestamp("us", "UTC"))
    requests = pa.table({"card_id": ["a", "a", "a"], "shop": ["b", "c", None], "event_timestamp": times_us})
    joined = join_point_in_time(requests, [source], JoinLimits(64, tmp_path / "spill"))
    assert joined["value"].to_pylist() == [1.0, 2.0, None]


def test_no_requests_are_joined_to_no_rows(tmp_path: Path) -> None:
    write_history(tmp_path / "cards", "card_id", "card_id_value", [Past("c1", 0, 0, "e", 5.0)], files=1)
    requests = draw_requests(random.Random(1), 10, entities=1, span_s=1)[:0]
    joined = join_point_in_time(requests, [source_of(tmp_path / "cards", "card_id")], JoinLimits(64, tmp_path / "s"))
    assert joined.num_rows == 0
    assert joined["card_id_value"].type == pa.float64()


def test_what_cannot_be_joined_is_named(tmp_path: Path) -> None:
    limits = JoinLimits(64, tmp_path / "spill")
    requests = draw_requests(random.Random(1), 10, entities=1, span_s=1)
    with pytest.raises(HistoryUnusable, match="card_id: there is no history in gone"):
        join_point_in_time(requests, [source_of(tmp_path / "gone", "card_id")], limits)
    write_history(tmp_path / "cards", "card_id", "card_id_value", [Past("c1", 0, 0, "e", 5.0)], files=1)
    source = source_of(tmp_path / "cards", "card_id")
    with pytest.raises(HistoryUnusable, match="no column card_id"):
        join_point_in_time(requests.drop_columns("card_id"), [source], limits)
    with pytest.raises(HistoryUnusable, match="already a column card_id_value"):
        join_point_in_time(requests, [source, source], limits)
