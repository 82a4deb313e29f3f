"""Picks from a log what a person wants to see first: what the platform says before what its libraries say."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_TAIL_BYTES = 64 * 1024
_TROUBLE = re.compile(r"\b(error|exception|fatal|critical|failed|cannot start)\b|Error\b|Exception\b", re.IGNORECASE)
_OWN = ("flywheel", "services", "infra", "usecases", "__main__")
_OF_A_LIBRARY = re.compile(r"%\d\|\d")
"""How librdkafka begins its lines."""
_DATED = re.compile(r"\[?\d{4}-\d\d-\d\d[T ]\d\d:\d\d")
_BOOKKEEPING = {"event", "level", "logger", "service", "timestamp", "usecase", "exception"}


def telling_line(log: Path, since: int = 0) -> str:
    """The last line after byte `since` that speaks of trouble, else the last one; empty without any.

    Of trouble, what a library says is told where nobody else says anything.
    """
    return _telling(log, since)[1]


def dated_telling_line(log: Path) -> str:
    """The same with the time at which it was written, or after which, as far as the log tells: trouble may be over."""
    written, told = _telling(log)
    return f"{written} {told}" if written else told


def _telling(log: Path, since: int = 0) -> tuple[str, str]:
    """When the line was written, and what it says."""
    lines: list[tuple[str, str, bool]] = []
    before = ""
    for line in tail(log, since):
        at = str((_entry(line) or {}).get("timestamp", ""))[:19].replace("T", " ")
        # A line that shows its time by itself, as the engines' do, needs no other.
        undated = f"after {before} UTC" if before and not _DATED.match(line) else ""
        lines.append((f"{at} UTC" if at else undated, readable(line), _is_own(line)))
        before = at or before
    troubles = [each for each in lines if _TROUBLE.search(each[1])]
    own = [each for each in troubles if each[2]]
    return (own or troubles or lines or [("", "", True)])[-1][:2]


def newest_event(log: Path, since: int = 0) -> tuple[str, str]:
    """When the last structured line after byte `since` was written, and what it says; both empty without any.

    It is told as its event and what it says of it: `model appraised, algorithm lightgbm`. What libraries write into the
    same log, such as how a client of the broker connects, is left out.
    """
    for line in reversed(tail(log, since)):
        entry = _entry(line)
        if entry is not None and _is_own(line):
            return str(entry.get("timestamp", "")), _told(entry)
    return "", ""


def last_line(log: Path, since: int = 0) -> str:
    """The last line after byte `since` that is no library's; empty without any."""
    return next((readable(line) for line in reversed(tail(log, since)) if _is_own(line)), "")


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


def _is_own(line: str) -> bool:
    """Whether the platform wrote it, or whatever program the log is of."""
    entry = _entry(line)
    if entry is None:
        return not _OF_A_LIBRARY.match(line)
    return str(entry.get("logger", _OWN[0])).partition(".")[0] in _OWN


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
