"""What an event's fields are made of, whether or not they may be absent."""

from __future__ import annotations

from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from flywheel.contracts.events import Event

REQUEST = "request."
"""Begins the name of a feature's input that is a field of the request."""
REQUEST_TIME = f"{REQUEST}event_time_us"
"""The input that is the request's own time."""

_KINDS = (bool, int, float, str)


def kind_of(event: type[Event], field: str) -> type | None:
    """bool, int, float or str for the field's values beside None; None for an unknown field or another type."""
    info = event.model_fields.get(field)
    return None if info is None else _plain(info.annotation)


def numeric_fields(event: type[Event]) -> dict[str, type]:
    """int or float, by the name of every field that is always there and a number."""
    kinds: dict[Any, type] = {int: int, float: float}
    return {n: kinds[info.annotation] for n, info in event.model_fields.items() if info.annotation in (int, float)}


def required_fields(event: type[Event]) -> tuple[str, ...]:
    """Names of the fields without whose value a record is no such event."""
    return tuple(n for n, info in event.model_fields.items() if info.is_required() and not _nullable(info.annotation))


def _nullable(annotation: Any) -> bool:
    if get_origin(annotation) is Annotated:
        return _nullable(get_args(annotation)[0])
    return get_origin(annotation) in (Union, UnionType) and NoneType in get_args(annotation)


def _plain(annotation: Any) -> type | None:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _plain(get_args(annotation)[0])
    if origin in (Union, UnionType):
        kinds = [part for part in get_args(annotation) if part is not NoneType]
        return _plain(kinds[0]) if len(kinds) == 1 else None
    return next((kind for kind in _KINDS if isinstance(annotation, type) and issubclass(annotation, kind)), None)
