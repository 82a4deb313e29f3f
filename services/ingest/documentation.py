"""What /docs says: every event's own schema with examples, every refusal, drawn from the declarations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from flywheel.adapters import http_problem
from flywheel.contracts.events import BACKFILL_HEADER, Event

_REF = "#/components/schemas/"

_BATCH_RESULT: dict[str, Any] = {
    "type": "object",
    "required": ["accepted", "rejected", "results"],
    "properties": {
        "accepted": {"type": "integer"},
        "rejected": {"type": "integer"},
        "results": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["index", "event_id", "status"],
                "properties": {
                    "index": {"type": "integer"},
                    "event_id": {"type": ["string", "null"]},
                    "status": {"enum": ["accepted", "rejected", "unavailable"]},
                    "problem": {"$ref": f"{_REF}Problem"},
                },
            },
        },
    },
}
_ACCEPTED: dict[str, Any] = {
    "type": "object",
    "required": ["event_id", "status"],
    "properties": {"event_id": {"type": "string"}, "status": {"const": "accepted"}},
}
_BACKFILL: dict[str, Any] = {
    "name": BACKFILL_HEADER,
    "in": "header",
    "required": False,
    "description": "`true` for events that are loaded after the fact. In training they count as known from their event "
    "time on; live events only from their arrival.",
    "schema": {"type": "boolean", "default": False},
}


class EventSchemas:
    """The schemas of all events under names of their own, as the document's components."""

    def __init__(self, events: Sequence[type[Event]]) -> None:
        references, found = models_json_schema([(e, "validation") for e in events], ref_template=_REF + "{model}")
        self._references = {event: reference for (event, _), reference in references.items()}
        self.definitions: dict[str, Any] = found.get("$defs", {})

    def reference(self, event: type[Event]) -> dict[str, Any]:
        """Points to the event's schema."""
        return dict(self._references[event])


def event_operation(
    usecase: str, event: type[Event], schema: dict[str, Any], example: dict[str, Any]
) -> dict[str, Any]:
    """The OpenAPI operation of one event's endpoint."""
    return {
        "summary": f"Accept one {event.event_name}",
        "description": (event.__doc__ or "") + "\n\nAnswered once the broker has the event durably.",
        "tags": [usecase],
        "parameters": [_BACKFILL],
        "requestBody": _body(schema, example),
        "responses": {"202": _answer("The event is kept.", _ACCEPTED), **_refusals()},
    }


def batch_operation(
    usecase: str, event: type[Event], schema: dict[str, Any], example: dict[str, Any], limit: int
) -> dict[str, Any]:
    """The OpenAPI operation of one event's batch endpoint."""
    batch = {
        "type": "object",
        "required": ["events"],
        "properties": {"events": {"type": "array", "maxItems": limit, "items": schema}},
        "additionalProperties": False,
    }
    return {
        "summary": f"Accept up to {limit} events: {event.event_name}",
        "description": "Good events are kept though others are refused; each has a result of its own. "
        "After a 503 send the whole batch again: event ids make that harmless.",
        "tags": [usecase],
        "parameters": [_BACKFILL],
        "requestBody": _body(batch, {"events": [example]}),
        "responses": {"200": _answer("One result per event, in order.", _BATCH_RESULT), **_refusals()},
    }


def document(app: FastAPI, schemas: EventSchemas) -> None:
    """The app's OpenAPI document contains the events' schemas."""

    def openapi() -> dict[str, Any]:
        if not app.openapi_schema:
            made = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            components = made.setdefault("components", {}).setdefault("schemas", {})
            components.update(schemas.definitions, Problem=http_problem.SCHEMA)
            app.openapi_schema = made
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # the documented way to extend the document


_MEANINGS = {
    400: "The body is not JSON.",
    408: "The body came too slowly.",
    413: "The body is too large.",
    415: "The body is of another type.",
    422: "What was sent is not valid; `errors` names field, reason and remedy.",
    503: "The broker does not acknowledge or too much waits for it; send the same again after `Retry-After` seconds.",
}


def _refusals() -> dict[str, Any]:
    problem = {http_problem.MEDIA_TYPE: {"schema": {"$ref": f"{_REF}Problem"}}}
    return {str(status): {"description": meaning, "content": problem} for status, meaning in _MEANINGS.items()}


def _body(schema: dict[str, Any], example: dict[str, Any]) -> dict[str, Any]:
    return {"required": True, "content": {"application/json": {"schema": schema, "example": example}}}


def _answer(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}
