"""Bounds what Feast's offline store may hold in memory; the rest goes to disk."""

from __future__ import annotations

from pathlib import Path

import ibis


def limit_memory(limit_mib: int, spill: Path) -> None:
    """From now on DuckDB, as this process's Feast uses it, keeps at most `limit_mib` and spills to that directory.

    Feast runs its joins on Ibis' default backend, which would otherwise take most of the machine's memory.
    """
    spill.mkdir(parents=True, exist_ok=True)
    ibis.set_backend(ibis.duckdb.connect(memory_limit=f"{limit_mib}MiB", threads=1, temp_directory=str(spill)))
