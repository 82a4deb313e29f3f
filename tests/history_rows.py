"""Random histories and requests for the tests of point-in-time joins, and what a join must answer, row by row."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from flywheel.adapters.point_in_time import HistorySource

TIME = pa.timestamp("us", "UTC")
SECOND_US = 1_000_000
START_US = 1_522_540_800 * SECOND_US


@dataclass(frozen=True)
class Past:
    """A row of history."""

    entity: str
    at_us: int
    created_us: int
    event_id: str
    value: float


def draw_history(rng: random.Random, prefix: str, rows: int, *, entities: int, span_s: int) -> list[Past]:
    """Rows in no order at all, many at the same moment; no two of one entity and moment were created together."""
    found: dict[tuple[str, int, int], Past] = {}
    for number in range(rows):
        entity, at_us = f"{prefix}{rng.randrange(entities)}", START_US + rng.randrange(span_s) * SECOND_US
        created_us = START_US + rng.randrange(10**6)
        past = Past(entity, at_us, created_us, f"e{number}", rng.choice([rng.random(), float(number), float("nan")]))
        found[entity, at_us, created_us] = past
    return list(found.values())


def draw_requests(rng: random.Random, rows: int, *, entities: int, span_s: int) -> pa.Table:
    """Requests in no order, some doubled, of entities that history may never have seen, before it and after it."""
    asked = [
        (f"c{rng.randrange(entities)}", f"t{rng.randrange(entities)}", START_US + rng.randrange(-5, span_s) * SECOND_US)
        for _ in range(rows)
    ]
    asked += [rng.choice(asked) for _ in range(rows // 10)]
    rng.shuffle(asked)
    cards, terminals, times_us = zip(*asked, strict=True)
    return pa.table(
        {
            "note": [f"row {number}" for number in range(len(asked))],
            "card_id": cards,
            "terminal_id": terminals,
            "event_timestamp": pa.array(times_us).cast(TIME),
        }
    )


def write_history(directory: Path, key: str, feature: str, history: list[Past], *, files: int) -> None:
    """The rows in several Parquet files, each of several row groups."""
    directory.mkdir(parents=True)
    for number in range(files):
        part = history[number::files]
        table = pa.table(
            {
                key: [past.entity for past in part],
                "event_id": [past.event_id for past in part],
                "event_timestamp": pa.array([past.at_us for past in part]).cast(TIME),
                "created_timestamp": pa.array([past.created_us for past in part]).cast(TIME),
                feature: [past.value for past in part],
                f"{feature}_doubled": [past.value * 2 for past in part],
            }
        )
        pq.write_table(table, directory / f"part-{number:05}.parquet", row_group_size=max(len(part) // 3, 1))


def seen_by_definition(source: HistorySource, history: list[Past], requests: pa.Table) -> list[Past | None]:
    """For each request the row it sees: a loop over all rows."""
    ((ours, _),) = source.keys
    ids = requests[source.own_id].to_pylist() if source.own_id in requests.column_names else [None] * len(requests)
    times_us = requests["event_timestamp"].cast(pa.int64()).to_pylist()
    found = []
    for entity, at_us, event_id in zip(requests[ours].to_pylist(), times_us, ids, strict=True):
        candidates = [past for past in history if past.entity == entity and past.at_us <= at_us]
        own = [past for past in candidates if past.at_us == at_us and past.event_id == event_id]
        newest = max(own or candidates, key=lambda past: (past.at_us, past.created_us), default=None)
        expired = newest is not None and source.ttl_us is not None and at_us - newest.at_us > source.ttl_us
        found.append(None if expired else newest)
    return found
