"""Bodies of the Open Inference Protocol over HTTP: JSON, and the tensors that may follow it in binary.

In a body with a binary part the JSON comes first, as long as the header `Inference-Header-Content-Length` says; then
the elements of those tensors whose parameter `binary_data_size` says how many bytes they take, in the tensors' order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SkipValidation,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationError,
)

from services.serving.inference.messages import InferenceAnswer, InferenceRequest
from services.serving.inference.tensors import (
    MAX_DIMENSIONS,
    InvalidInference,
    Tensor,
    check_size,
    from_bytes,
    from_values,
)

LENGTH_HEADER = "Inference-Header-Content-Length"

Parameters = dict[str, StrictBool | StrictInt | StrictFloat | StrictStr]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class InputBody(_Part):
    """One input tensor. `data`: nested by rows or flat, null where a number is missing."""

    name: str
    shape: list[int]
    datatype: str
    parameters: Parameters = {}
    # Elements are checked where the datatype is known.
    data: SkipValidation[list[Any] | None] = None


class OutputBody(_Part):
    """One output that is asked for."""

    name: str
    parameters: Parameters = {}


class InferenceBody(_Part):
    """What a model is to run on."""

    id: str = ""
    parameters: Parameters = {}
    inputs: list[InputBody] = Field(min_length=1)
    outputs: list[OutputBody] = []


class IndexBody(_Part):
    """Which versions are to be listed: all, or those that are loaded."""

    ready: bool = False


Body = TypeVar("Body", bound=_Part)


@dataclass(frozen=True)
class Asked:
    """A request, and which of its outputs are wanted in binary: by name, `binary` for those that say nothing."""

    request: InferenceRequest
    binary: bool
    binary_by_name: Mapping[str, bool]


def read_request(
    model: str, version: str, body: bytes, json_length: int | None, max_elements: int | None = None
) -> Asked:
    """The request in a body, whose JSON takes `json_length` bytes; None: all of it. Raises InvalidInference.

    Tensors of more than `max_elements` together are refused before their elements are looked at.
    """
    split = len(body) if json_length is None else json_length
    if split > len(body):
        raise InvalidInference(LENGTH_HEADER, f"it says {split} of {len(body)} bytes", "give the length of the JSON")
    parsed = _parsed(body[:split], InferenceBody)
    check_size((tensor.shape for tensor in parsed.inputs), max_elements)
    parameters = dict(parsed.parameters)
    binary = _flag(parameters.pop("binary_data_output", False), "binary_data_output")
    request = InferenceRequest(
        model=model,
        version=version,
        id=parsed.id,
        inputs=list(_tensors(parsed.inputs, memoryview(body)[split:])),
        outputs=[output.name for output in parsed.outputs],
        parameters=parameters,
    )
    return Asked(request, binary, dict(_binary_outputs(parsed.outputs)))


def write_answer(answer: InferenceAnswer, asked: Asked) -> tuple[bytes, int | None]:
    """The body of an answer, and how much of it is JSON; None: all of it."""
    outputs, chunks = [], []
    for tensor in answer.outputs:
        output: dict[str, Any] = {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": list(tensor.values.shape),
        }
        if asked.binary_by_name.get(tensor.name, asked.binary):
            chunks.append(tensor.to_bytes())
            output["parameters"] = {"binary_data_size": len(chunks[-1])}
        else:
            output["data"] = tensor.values.reshape(-1).tolist()
        outputs.append(output)
    head = {"model_name": answer.model, "model_version": answer.version, "id": answer.id}
    if not answer.id:
        del head["id"]
    text = orjson.dumps({**head, "parameters": dict(answer.parameters), "outputs": outputs})
    return (b"".join((text, *chunks)), len(text)) if chunks else (text, None)


def read_ready_only(body: bytes) -> bool:
    """Whether only loaded versions are asked for; an empty body asks for all. Raises InvalidInference."""
    return _parsed(body, IndexBody).ready if body else False


def _parsed(text: bytes, kind: type[Body]) -> Body:
    try:
        # orjson refuses NaN and Infinity, which are no JSON, and nesting deeper than 1,024.
        return kind.model_validate(orjson.loads(text))
    except orjson.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise InvalidInference("body", f"it is no JSON: {error.msg} at {where}", "send null for NaN") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(step) for step in first["loc"]) or "body"
        raise InvalidInference(where[:128], first["msg"], "see /docs for what is expected") from None


def _tensors(inputs: Sequence[InputBody], binary: memoryview) -> Iterator[Tensor]:
    start = 0
    for tensor in inputs:
        size = tensor.parameters.get("binary_data_size")
        _check_parameters(tensor.name, tensor.parameters, "binary_data_size")
        if size is None:
            if tensor.data is None:
                raise InvalidInference(tensor.name, "it has no data", "send data, or binary data and binary_data_size")
            if not isinstance(tensor.data, list):
                raise InvalidInference(tensor.name, "its data is no list", "send the elements row by row")
            yield from_values(tensor.name, tensor.datatype, tensor.shape, _flat(tensor))
            continue
        if type(size) is not int or size < 0 or tensor.data is not None:
            raise InvalidInference(
                tensor.name, "binary_data_size stands beside data, or is no size", "send one of both"
            )
        yield from_bytes(tensor.name, tensor.datatype, tensor.shape, bytes(binary[start : start + size]))
        start += size
    if start != len(binary):
        raise InvalidInference(
            "body", f"{len(binary)} bytes follow the JSON where {start} are announced", f"check {LENGTH_HEADER}"
        )


def _flat(tensor: InputBody) -> list[Any]:
    """The elements row by row. Data nested otherwise than the shape says is refused, for it would be misread."""
    values: list[Any] = tensor.data or []
    if len(tensor.shape) > MAX_DIMENSIONS or not any(isinstance(value, list) for value in values):
        return values
    return _unnested(tensor, values, 0)


def _unnested(tensor: InputBody, values: Any, axis: int) -> list[Any]:
    if axis == len(tensor.shape):
        return [values]
    if not isinstance(values, list) or len(values) != tensor.shape[axis]:
        raise InvalidInference(
            tensor.name, f"the data is not nested as the shape {tensor.shape} says", "nest it so, or send it flat"
        )
    if axis == len(tensor.shape) - 1:
        return values
    return [element for part in values for element in _unnested(tensor, part, axis + 1)]


def _binary_outputs(outputs: Sequence[OutputBody]) -> Iterator[tuple[str, bool]]:
    for output in outputs:
        _check_parameters(output.name, output.parameters, "binary_data")
        if "binary_data" in output.parameters:
            yield output.name, _flag(output.parameters["binary_data"], "binary_data")


def _check_parameters(name: str, parameters: Mapping[str, object], served: str) -> None:
    if other := [parameter for parameter in parameters if parameter != served]:
        raise InvalidInference(name, f"the parameter {other[0][:64]!r} is not served", "leave it out")


def _flag(value: object, name: str) -> bool:
    if not isinstance(value, bool):
        raise InvalidInference(name, "it is neither true nor false", "send true or false")
    return value
