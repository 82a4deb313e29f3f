"""Messages of the Open Inference Protocol over gRPC, to and from what they mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from flywheel.contracts.proto.inference_pb2 import (
    InferParameter,
    InferTensorContents,
    ModelInferRequest,
    ModelInferResponse,
    ModelMetadataResponse,
    RepositoryIndexResponse,
)
from services.serving.inference.messages import (
    IndexEntry,
    InferenceAnswer,
    InferenceRequest,
    ModelDescription,
    Parameter,
    TensorDescription,
)
from services.serving.inference.tensors import InvalidInference, Tensor, check_size, from_array, from_bytes

_CONTENTS: Mapping[str, str] = {
    "BOOL": "bool_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
}


def read_request(message: ModelInferRequest, max_elements: int | None = None) -> InferenceRequest:
    """What the message asks for, with no more elements than that in its tensors. Raises InvalidInference."""
    check_size((tensor.shape for tensor in message.inputs), max_elements)
    with_parameters = [tensor.name for tensor in message.inputs if tensor.parameters]
    with_parameters += [output.name for output in message.outputs if output.parameters]
    if with_parameters:
        raise InvalidInference(with_parameters[0], "parameters of a tensor are not served", "leave them out")
    return InferenceRequest(
        model=message.model_name,
        version=message.model_version,
        id=message.id,
        inputs=_raw(message) if message.raw_input_contents else [_typed(tensor) for tensor in message.inputs],
        outputs=[output.name for output in message.outputs],
        parameters={name: _parameter(name, value) for name, value in message.parameters.items()},
    )


def write_answer(answer: InferenceAnswer, *, raw: bool) -> ModelInferResponse:
    """The answer as a message, its tensors raw or in the fields of their datatypes."""
    message = ModelInferResponse(model_name=answer.model, model_version=answer.version, id=answer.id)
    for name, value in answer.parameters.items():
        message.parameters[name].CopyFrom(_told(value))
    for tensor in answer.outputs:
        output = message.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.values.shape)
        if raw:
            message.raw_output_contents.append(tensor.to_bytes())
        else:
            output.contents.CopyFrom(contents_of(tensor))
    return message


def write_description(model: ModelDescription) -> ModelMetadataResponse:
    return ModelMetadataResponse(
        name=model.name,
        versions=model.versions,
        platform=model.platform,
        inputs=_described(model.inputs),
        outputs=_described(model.outputs),
    )


def write_index(entries: Sequence[IndexEntry]) -> RepositoryIndexResponse:
    return RepositoryIndexResponse(
        models=[
            RepositoryIndexResponse.ModelIndex(
                name=entry.name, version=entry.version, state=entry.state, reason=entry.reason
            )
            for entry in entries
        ]
    )


def contents_of(tensor: Tensor) -> InferTensorContents:
    """The elements in the field of their datatype; FP16 has none and goes raw only."""
    return InferTensorContents(**{_CONTENTS[tensor.datatype]: tensor.values.reshape(-1).tolist()})


def _raw(message: ModelInferRequest) -> list[Tensor]:
    if len(message.raw_input_contents) != len(message.inputs):
        raise InvalidInference(
            "raw_input_contents",
            f"{len(message.raw_input_contents)} contents for {len(message.inputs)} inputs",
            "send one for each input, in their order",
        )
    if any(tensor.HasField("contents") for tensor in message.inputs):
        raise InvalidInference("inputs", "contents come typed and raw", "send all of them in one of the two ways")
    return [
        from_bytes(tensor.name, tensor.datatype, tensor.shape, content)
        for tensor, content in zip(message.inputs, message.raw_input_contents, strict=True)
    ]


def _typed(tensor: ModelInferRequest.InferInputTensor) -> Tensor:
    wanted = _CONTENTS.get(tensor.datatype)
    if other := [field.name for field, _ in tensor.contents.ListFields() if field.name != wanted]:
        hint = f"fill {wanted}" if wanted else "send raw contents, or another datatype"
        raise InvalidInference(tensor.name, f"elements of {tensor.datatype or 'no datatype'} come in {other[0]}", hint)
    # An array is made of such a field without an object for each element.
    values = np.asarray(getattr(tensor.contents, wanted) if wanted else ())
    return from_array(tensor.name, tensor.datatype, tensor.shape, values)


def _parameter(name: str, value: InferParameter) -> Parameter:
    choice = value.WhichOneof("parameter_choice")
    if choice is None:
        raise InvalidInference("parameters", f"{name[:64]!r} has no value", "give it one or leave it out")
    found: Parameter = getattr(value, choice)
    return found


def _told(value: Parameter) -> InferParameter:
    if isinstance(value, bool):
        return InferParameter(bool_param=value)
    if isinstance(value, int):
        return InferParameter(int64_param=value)
    if isinstance(value, float):
        return InferParameter(double_param=value)
    return InferParameter(string_param=value)


def _described(tensors: Sequence[TensorDescription]) -> list[ModelMetadataResponse.TensorMetadata]:
    return [
        ModelMetadataResponse.TensorMetadata(name=each.name, datatype=each.datatype, shape=each.shape)
        for each in tensors
    ]
