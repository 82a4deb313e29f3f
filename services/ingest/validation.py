"""Checks one decoded event against its declaration, and says field by field what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from flywheel.adapters.http_problem import FieldError
from flywheel.contracts.events import Event
from services.ingest.examples import example_of

_MAX_ERRORS = 20
_MAX_FIELD_CHARS = 64


@dataclass(eq=False)
class InvalidEvent(Exception):
    """The event is refused for good; sending it again will not help."""

    errors: tuple[FieldError, ...]


class EventSchema:
    """Validates one kind of event. `parse` is called for every event accepted."""

    def __init__(self, event: type[Event]) -> None:
        self.event = event
        self.example = example_of(event)

    def parse(self, item: object) -> Event:
        """The typed event. Raises InvalidEvent."""
        try:
            return self.event.model_validate(item)
        except ValidationError as error:
            raise self._invalid(item, error) from None

    def _invalid(self, item: object, error: ValidationError) -> InvalidEvent:
        if not isinstance(item, dict):
            return InvalidEvent(
                (FieldError("", "Input should be a JSON object", f"for example {orjson.dumps(self.example).decode()}"),)
            )
        found = error.errors(include_url=False, include_input=False, include_context=False)[:_MAX_ERRORS]
        return InvalidEvent(tuple(self._field_error(details) for details in found))

    def _field_error(self, details: ErrorDetails) -> FieldError:
        path = ".".join(str(part) for part in details["loc"])[:_MAX_FIELD_CHARS]
        return FieldError(path, details["msg"], self._hint(details, path))

    def _hint(self, details: ErrorDetails, path: str) -> str:
        if details["type"] == "extra_forbidden":
            return f"leave it out; the fields are {', '.join(self.event.model_fields)}"
        if details["type"] == "timezone_aware":
            return 'end it with "Z" or an offset such as "+02:00"'
        example: Any = _at(self.example, path)
        return f"for example {orjson.dumps(example).decode()}" if example is not None else "see the schema in /docs"


def _at(example: Mapping[str, Any], path: str) -> object:
    return example.get(path.partition(".")[0])
