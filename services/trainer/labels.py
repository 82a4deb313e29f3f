"""Request events whose truth is known, read from the lake."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import duckdb
import pyarrow as pa

from flywheel.adapters.duckdb_sql import ARRIVAL, literal
from flywheel.contracts.events import Event, to_us
from flywheel.contracts.training import HistoryBuilt
from flywheel.kernel.declaration import UseCase
from flywheel.kernel.fields import numeric_fields

LABEL = "label"
IN_HISTORY = "in_history"


@dataclass(frozen=True)
class Known:
    """Until when the world is known: what happened by `event_time`, as far as it had arrived by `ingest_time`."""

    event_time: datetime
    ingest_time: datetime | None = None
    """None where the history does not say; all that is archived then counts."""

    @classmethod
    def by(cls, history: HistoryBuilt) -> Known:
        """What was known when the history was asked for."""
        return cls(history.event_time_until, history.arrived_until)


def matured_requests(lake: Path, usecase: UseCase, known: Known, snapshot: Path) -> pa.Table:
    """Every request event old enough for its label, once, ordered by time.

    Columns: event_id, event_time (UTC), ingest_time, backfilled, the entities' keys, the numeric fields of the request,
    label (bool) and in_history (bool), whether the feature history in the directory `snapshot` knows the event.
    Positive is whom a label event names that happened before the event matured and had arrived by then; a later one is
    not counted, as in the monitor's quality. What was backfilled has arrived once it was loaded, as anything else. An
    event archived twice counts as it arrived first.
    """
    columns = _columns(usecase)
    with duckdb.connect() as database:
        database.execute("SET TimeZone = 'UTC'")
        history = f"SELECT event_id FROM read_parquet({literal(snapshot / '*.parquet')})"
        return database.sql(
            f"""
            SELECT {", ".join(f"requests.{name}" for name in columns)}, named.subject IS NOT NULL AS {LABEL},
                requests.event_id IN ({history}) AS {IN_HISTORY}
            FROM {_rows_of(lake / usecase.name, usecase.request)} requests
            LEFT JOIN (
                SELECT {usecase.label.joins} AS subject, min(epoch_us(event_time)) AS reported_us
                FROM {_rows_of(lake / usecase.name, usecase.label.event)} truths
                WHERE epoch_us(ingest_time) <= $arrived GROUP BY ALL
            ) named ON requests.event_id = named.subject
                AND named.reported_us <= epoch_us(requests.event_time) + $maturity
            WHERE epoch_us(requests.event_time) <= $known - $maturity AND epoch_us(requests.ingest_time) <= $arrived
            ORDER BY requests.event_time, requests.event_id
            """,
            params={
                "known": to_us(known.event_time),
                "arrived": arrived_until_us(known.ingest_time),
                "maturity": usecase.label.maturity_us,
            },
        ).to_arrow_table()


def arrived_until_us(ingest_time: datetime | None) -> int:
    """The latest arrival, in microseconds, that counts; beyond all arrivals for None."""
    return _ALWAYS_US if ingest_time is None else to_us(ingest_time)


def first_arrivals(lake: Path, event: type[Event], *, where: str = "true") -> str | None:
    """SQL of the event's archive below `lake`, each id once, as it arrived first; None when nothing was archived yet.

    Its columns are the event's fields, `ingest_time` and `backfilled`, which is false in files that do not have it. Of
    ids that no archived row with `where` has, rows may be left out: others need not be read.
    """
    directory = lake / event.event_name
    if next(directory.glob("*/*/*.parquet"), None) is None:
        return None
    paths = literal(directory / "*/*/*.parquet")
    files = f"""(
        SELECT NULL::BOOLEAN AS backfilled WHERE false UNION ALL BY NAME
        SELECT * FROM read_parquet({paths}, hive_partitioning = true, union_by_name = true)
    )"""
    wanted = "true" if where == "true" else f"event_id IN (SELECT event_id FROM {files} WHERE {where})"
    return f"""(
        SELECT {", ".join([*event.model_fields, *_BESIDE])} FROM (
            SELECT * REPLACE (event_time::TIMESTAMPTZ AS event_time, ingest_time::TIMESTAMPTZ AS ingest_time,
                    coalesce(backfilled, false) AS backfilled),
                {ARRIVAL} AS arrival
            FROM {files} WHERE {wanted}
        ) WHERE arrival = 1
    )"""


def _rows_of(lake: Path, event: type[Event]) -> str:
    """`first_arrivals`, or no rows of the same columns."""
    fields = [*event.model_fields, *_BESIDE]
    nothing = ", ".join(f"NULL::{_SQL_TYPES.get(field, 'VARCHAR')} AS {field}" for field in fields)
    return first_arrivals(lake, event) or f"(SELECT {nothing} WHERE false)"


def _columns(usecase: UseCase) -> tuple[str, ...]:
    keys = (key for entity in usecase.entities for key in entity.request_keys)
    return tuple(dict.fromkeys(("event_id", "event_time", *_BESIDE, *keys, *numeric_fields(usecase.request))))


_BESIDE = ("ingest_time", "backfilled")
_SQL_TYPES = {"event_time": "TIMESTAMPTZ", "ingest_time": "TIMESTAMPTZ", "backfilled": "BOOLEAN"}
_ALWAYS_US = 2**62
