"""What /docs says of a request for scores, drawn from the models that parse it."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import models_json_schema

from services.serving.inference.json_bodies import InferenceBody

_REF = "#/components/schemas/"
_EXAMPLE = {
    "id": "42",
    "inputs": [{"name": "features", "datatype": "FP32", "shape": [1, 2], "data": [[3.0, None]]}],
    "outputs": [{"name": "score"}],
}


def infer_operation() -> dict[str, Any]:
    """The OpenAPI operation of an inference; its schemas are components of the document."""
    return {
        "description": "Runs the model on the rows that are sent: no features are read, no policy chooses, no decision "
        "is logged. Rows come as one tensor `features` with a column for each feature, or as one tensor a feature, by "
        "name; null is a missing number. Tensors may follow the JSON in binary, as the protocol's extension says.",
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": f"{_REF}InferenceBody"}, "example": _EXAMPLE}},
        },
    }


def inference_schemas() -> dict[str, Any]:
    """The schemas of bodies, by their names as components."""
    _, found = models_json_schema([(InferenceBody, "validation")], ref_template=_REF + "{model}")
    definitions: dict[str, Any] = found["$defs"]
    return definitions
