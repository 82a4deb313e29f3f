"""Turns text (command-line arguments, CSV cells) into the JSON values an event's schema asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any, get_args

from pydantic import BaseModel

from flywheel.client.errors import ClientError
from flywheel.contracts.events import Event


def parse_fields(event: type[Event], arguments: Sequence[str]) -> dict[str, Any]:
    """Values from `field=value` arguments. Raises ClientError for anything else and for fields the event lacks."""
    fields: dict[str, Any] = {}
    for argument in arguments:
        name, equals, text = argument.partition("=")
        if not equals:
            raise ClientError(f"{argument!r} is not of the form field=value")
        if name not in event.model_fields:
            raise ClientError(
                f"{event.event_name!r} has no field {name!r}; its fields are {', '.join(event.model_fields)}"
            )
        fields[name] = from_text(event, name, text)
    return fields


def from_text(schema: type[BaseModel], name: str, text: str) -> Any:
    """The JSON value of a field written as text; the text itself where it is no such value, for ingest to refuse."""
    wanted = _plain_types(schema.model_fields[name].annotation)
    try:
        if int in wanted:
            return int(text)
        if float in wanted:
            return float(text)
    except ValueError:
        return text
    if bool in wanted and text.lower() in ("true", "false"):
        return text.lower() == "true"
    return text


def to_json(value: Any) -> Any:
    """A value as read from Parquet in the form JSON has it; times without a zone are taken as UTC.

    >>> to_json(datetime(2018, 4, 1, 0, 0, 31))
    '2018-04-01T00:00:31+00:00'
    """
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).isoformat()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {key: to_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [to_json(item) for item in value]
    return value


def _plain_types(annotation: Any) -> set[Any]:
    """The types an annotation allows, unions taken apart."""
    parts = get_args(annotation)
    return {plain for part in parts for plain in _plain_types(part)} if parts else {annotation}
