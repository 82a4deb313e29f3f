"""Request events whose truth is known, read from the lake."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import duckdb
import pandas as pd

from flywheel.contracts.events import Event, to_us
from flywheel.kernel.declaration import UseCase

LABEL = "label"
IN_HISTORY = "in_history"


def matured_requests(lake: Path, usecase: UseCase, known_until: datetime, snapshot: Path) -> pd.DataFrame:
    """Every request event old enough for its label at `known_until`, once, ordered by time.

    Columns: event_id, event_time (UTC), the entities' keys, the numeric fields of the request, label (bool) and
    in_history (bool), whether the feature history in the directory `snapshot` knows the event. Positive is whom a
    label event names that happened before the event matured; a later one is not counted, as in the monitor's quality.
    An event archived twice counts as it arrived first.
    """
    known_us = to_us(known_until)
    columns = _columns(usecase)
    with duckdb.connect() as database:
        database.execute("SET TimeZone = 'UTC'")
        _view(database, "requests", lake / usecase.name, usecase.request)
        _view(database, "truths", lake / usecase.name, usecase.label.event)
        known = f"SELECT event_id FROM read_parquet('{_quoted(snapshot)}/*.parquet')"
        frame = database.execute(
            f"""
            SELECT {", ".join(f"requests.{name}" for name in columns)}, named.subject IS NOT NULL AS {LABEL},
                requests.event_id IN ({known}) AS {IN_HISTORY}
            FROM requests
            LEFT JOIN (
                SELECT {usecase.label.joins} AS subject, min(epoch_us(event_time)) AS reported_us
                FROM truths GROUP BY ALL
            ) named ON requests.event_id = named.subject
                AND named.reported_us <= epoch_us(requests.event_time) + $maturity
            WHERE epoch_us(requests.event_time) <= $known - $maturity
            ORDER BY requests.event_time, requests.event_id
            """,
            {"known": known_us, "maturity": usecase.label.maturity_us},
        ).df()
    return frame.astype({LABEL: bool, IN_HISTORY: bool})


def _columns(usecase: UseCase) -> tuple[str, ...]:
    numeric = [name for name, info in usecase.request.model_fields.items() if info.annotation in (int, float)]
    return tuple(dict.fromkeys(("event_id", "event_time", *(entity.key for entity in usecase.entities), *numeric)))


def _view(database: duckdb.DuckDBPyConnection, name: str, lake: Path, event: type[Event]) -> None:
    """A view of the event's archive with each id once; without rows when nothing was archived yet."""
    directory = lake / event.event_name
    fields = ", ".join(event.model_fields)
    if next(directory.glob("*/*/*.parquet"), None) is None:
        empty = ", ".join(f"NULL::{_SQL_TYPES.get(field, 'VARCHAR')} AS {field}" for field in event.model_fields)
        database.execute(f"CREATE VIEW {name} AS SELECT {empty} WHERE false")
        return
    database.execute(
        f"""
        CREATE VIEW {name} AS SELECT {fields} FROM (
            SELECT * REPLACE (event_time::TIMESTAMPTZ AS event_time), row_number() OVER (
                PARTITION BY event_id ORDER BY ingest_time, kafka_partition, kafka_offset
            ) AS arrival
            FROM read_parquet('{_quoted(directory)}/*/*/*.parquet', hive_partitioning = true, union_by_name = true)
        ) WHERE arrival = 1
        """
    )


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")


_SQL_TYPES = {"event_time": "TIMESTAMPTZ"}
