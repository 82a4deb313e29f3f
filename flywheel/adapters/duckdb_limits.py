"""Bounds what DuckDB may hold in memory; the rest goes to disk."""

from __future__ import annotations

from pathlib import Path

import duckdb


def bounded_database(limit_mib: int, spill: Path, *, threads: int = 1) -> duckdb.DuckDBPyConnection:
    """A database in memory, in UTC, that keeps at most `limit_mib` and spills to that directory."""
    spill.mkdir(parents=True, exist_ok=True)
    database = duckdb.connect(
        config={"memory_limit": f"{limit_mib}MiB", "threads": threads, "temp_directory": str(spill)}
    )
    database.execute("SET TimeZone = 'UTC'")
    # Order is restored by row numbers where it matters; keeping it otherwise costs memory.
    database.execute("SET preserve_insertion_order = false")
    return database


def limit_memory(limit_mib: int, spill: Path) -> None:
    """From now on DuckDB, as this process's Feast uses it, keeps at most `limit_mib` and spills to that directory.

    Feast runs its joins on Ibis' default backend, which would otherwise take most of the machine's memory.
    """
    # Feast alone needs it, and it is slow to import.
    import ibis

    spill.mkdir(parents=True, exist_ok=True)
    ibis.set_backend(ibis.duckdb.connect(memory_limit=f"{limit_mib}MiB", threads=1, temp_directory=str(spill)))
