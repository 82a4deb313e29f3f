"""The event in a record's value, for readers beside Spark: what Spark keeps as a dead letter is none here either."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

import orjson

from flywheel.contracts.events import Event, to_us
from flywheel.kernel.fields import kind_of, required_fields

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-](0\d|1[0-7]):[0-5]\d)", re.ASCII)
_LONG = range(-(1 << 63), 1 << 63)


@dataclass(frozen=True)
class Opened:
    """An event's fields, None where absent, when it happened and when it arrived."""

    fields: Mapping[str, Any]
    time_us: int
    arrived_us: int


def open_envelope(event: type[Event], value: bytes) -> Opened | None:
    """The event in a record's value; None without its arrival or a field that it must have, each of its declared type.

    A field that may be absent is so when it has another type.
    """
    try:
        envelope = orjson.loads(value)
    except orjson.JSONDecodeError:
        return None
    found = envelope.get("event") if isinstance(envelope, dict) else None
    if not isinstance(found, dict):
        return None
    fields = {name: _typed(kind, found.get(name)) for name, kind in _kinds(event).items()}
    time_us, arrived_us = _time_us(found.get("event_time")), _time_us(envelope.get("ingest_time"))
    if time_us is None or arrived_us is None or any(fields[name] is None for name in _required(event)):
        return None
    return Opened(fields, time_us, arrived_us)


@cache
def _kinds(event: type[Event]) -> dict[str, type | None]:
    return {name: kind_of(event, name) for name in event.model_fields}


@cache
def _required(event: type[Event]) -> tuple[str, ...]:
    return required_fields(event)


def _typed(kind: type | None, value: Any) -> Any:
    """The value as one of this kind, None for a moment; None when it is of another type."""
    if kind is None:
        return value if _time_us(value) is not None else None
    if kind is float:
        return float(value) if type(value) in (int, float) else None
    if kind is int:
        return value if type(value) is int and value in _LONG else None
    return value if type(value) is kind else None


def _time_us(value: Any) -> int | None:
    if not isinstance(value, str) or not _TIME.fullmatch(value):
        return None
    try:
        return to_us(datetime.fromisoformat(value))
    except ValueError:
        return None
