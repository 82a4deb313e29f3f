"""Removes lines from JSON Lines files, each file whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from flywheel.adapters.durable_files import replacing


def remove_lines(directory: Path, unwanted: Callable[[bytes], bool], *, dry_run: bool = False) -> int:
    """How many lines below the directory went, or would go."""
    removed = 0
    for path in sorted(directory.glob("**/*.jsonl")):
        lines = path.read_bytes().splitlines(keepends=True)
        kept = [line for line in lines if not unwanted(line)]
        removed += len(lines) - len(kept)
        if len(kept) < len(lines) and not dry_run:
            with replacing(path) as file:
                file.writelines(kept)
    return removed
