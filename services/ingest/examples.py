"""Makes an example of an event from its declaration, for the documentation and for hints."""

from __future__ import annotations

import math
from typing import Any

from flywheel.contracts.events import Event

_BY_FORMAT = {"date-time": "2018-04-01T00:00:31Z", "date": "2018-04-01", "uuid": "00000000-0000-4000-8000-000000000000"}


def example_of(event: type[Event]) -> dict[str, Any]:
    """A JSON object that the event's schema accepts.

    A field's own `examples` come first; the rest is made from type and bounds. A field with a pattern of its own
    needs `examples`.
    """
    schema = event.model_json_schema()
    definitions = schema.get("$defs", {})
    return {name: _value(name, part, definitions) for name, part in schema["properties"].items()}


def _value(name: str, schema: dict[str, Any], definitions: dict[str, Any]) -> Any:
    if "$ref" in schema:
        return _value(name, definitions[schema["$ref"].rpartition("/")[2]], definitions)
    for key in ("examples", "enum", "anyOf"):
        if key in schema:
            first = schema[key][0]
            return _value(name, first, definitions) if key == "anyOf" else first
    if "const" in schema:
        return schema["const"]
    return _made(name, schema, definitions)


def _made(name: str, schema: dict[str, Any], definitions: dict[str, Any]) -> Any:
    match schema.get("type"):
        case "integer":
            return _number(schema, 1_250)
        case "number":
            return _number(schema, 12.5)
        case "boolean":
            return True
        case "array":
            return [_value(name, schema.get("items", {}), definitions)]
        case "object":
            return {key: _value(key, part, definitions) for key, part in schema.get("properties", {}).items()}
        case "string":
            text = f"{name.removesuffix('_id').replace('_', '-')}-1"
            return _BY_FORMAT.get(schema.get("format", ""), text[: schema.get("maxLength", 64)])
    return None


def _number(schema: dict[str, Any], wanted: float) -> float:
    low = schema.get("minimum", schema.get("exclusiveMinimum", -math.inf))
    high = schema.get("maximum", schema.get("exclusiveMaximum", math.inf))
    if low < wanted < high:
        return wanted
    if math.isfinite(low) and math.isfinite(high):
        return type(wanted)((low + high) / 2)
    return type(wanted)(low + 1 if math.isfinite(low) else high - 1)
