"""Picks from a log what a person wants to see first."""

from __future__ import annotations

import json
import re
from pathlib import Path

_TAIL_BYTES = 64 * 1024
_TROUBLE = re.compile(r"\b(error|exception|fatal|critical|failed)\b|Error\b|Exception\b", re.IGNORECASE)


def telling_line(log: Path, since: int = 0) -> str:
    """The last line after byte `since` that speaks of trouble, else the last one; empty without any."""
    lines = [readable(line) for line in tail(log, since)]
    troubles = [line for line in lines if _TROUBLE.search(line)]
    return (troubles or lines or [""])[-1]


def last_line(log: Path, since: int = 0) -> str:
    """The last line after byte `since`; empty without any."""
    lines = tail(log, since)
    return readable(lines[-1]) if lines else ""


def tail(log: Path, since: int = 0) -> list[str]:
    """The lines that are not blank, from byte `since` on but at most the last 64 KiB."""
    try:
        with log.open("rb") as file:
            file.seek(0, 2)
            size = file.tell()
            # A log that was rotated is shorter than it was.
            start = since if since <= size else 0
            file.seek(max(start, size - _TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return []
    return [line.rstrip() for line in text.splitlines() if line.strip()]


def readable(line: str) -> str:
    """A structured line as level, event and the end of its exception; any other line as it is, stripped."""
    try:
        entry = json.loads(line)
    except ValueError:
        return line.strip()
    if not isinstance(entry, dict) or "event" not in entry:
        return line.strip()
    level = str(entry.get("level", "info"))
    exception = str(entry.get("exception", "")).strip().splitlines()[-1:]
    reason = [str(entry[name]) for name in ("error", "reason") if name in entry]
    parts = [*([level] if level != "info" else []), str(entry["event"]), *reason, *exception]
    return ": ".join(parts)
