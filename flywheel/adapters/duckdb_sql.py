"""Pieces of SQL that DuckDB's queries of archived files have in common."""

from __future__ import annotations

from pathlib import Path

ARRIVAL = "row_number() OVER (PARTITION BY event_id ORDER BY ingest_time, kafka_partition, kafka_offset)"
"""1 for the row by which an event counts that was archived more than once: the one that arrived first."""


def literal(text: str | Path) -> str:
    """The text as it stands in a query.

    >>> literal("Ann's files/*.parquet")
    "'Ann''s files/*.parquet'"
    """
    return "'" + str(text).replace("'", "''") + "'"
