"""Picks from a log what a person wants to see first."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_TAIL_BYTES = 64 * 1024
_TROUBLE = re.compile(r"\b(error|exception|fatal|critical|failed|cannot start)\b|Error\b|Exception\b", re.IGNORECASE)
_BOOKKEEPING = {"event", "level", "logger", "service", "timestamp", "usecase", "exception"}


def telling_line(log: Path, since: int = 0) -> str:
    """The last line after byte `since` that speaks of trouble, else the last one; empty without any."""
    return _telling(log, since)[1]


def dated_telling_line(log: Path) -> str:
    """The same with the time at which it was written, where it has one: trouble may be long over."""
    line, told = _telling(log)
    written = str((_entry(line) or {}).get("timestamp", ""))[:19].replace("T", " ")
    return f"{written} UTC {told}" if written else told


def _telling(log: Path, since: int = 0) -> tuple[str, str]:
    """The line as it is, and as it is read."""
    lines = [(line, readable(line)) for line in tail(log, since)]
    troubles = [(line, told) for line, told in lines if _TROUBLE.search(told)]
    return (troubles or lines or [("", "")])[-1]


def newest_event(log: Path, since: int = 0) -> tuple[str, str]:
    """When the last structured line after byte `since` was written, and what it says; both empty without any.

    It is told as its event and what it says of it: `model appraised, algorithm lightgbm`.
    """
    for entry in filter(None, map(_entry, reversed(tail(log, since)))):
        return str(entry.get("timestamp", "")), _told(entry)
    return "", ""


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
    entry = _entry(line)
    if entry is None:
        return line.strip()
    level = str(entry.get("level", "info"))
    exception = str(entry.get("exception", "")).strip().splitlines()[-1:]
    reason = [str(entry[name]) for name in ("error", "reason") if name in entry]
    parts = [*([level] if level != "info" else []), str(entry["event"]), *reason, *exception]
    return ": ".join(parts)


def _entry(line: str) -> dict[str, Any] | None:
    """The fields of a structured line; None for any other."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and "event" in entry else None


def _told(entry: Mapping[str, Any]) -> str:
    said = {name: value for name, value in entry.items() if name not in _BOOKKEEPING and not name.endswith("_id")}
    details = [f"{name.replace('_', ' ')} {_shown(value)}" for name, value in said.items()]
    return ", ".join((str(entry["event"]).replace("_", " "), *details))


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
