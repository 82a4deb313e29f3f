"""Reads what an ONNX file refers to, without the onnx package and without running anything.

Only what matters is described to the protobuf parser: operator domains and where tensors keep their data. Field
numbers are those of onnx.proto, which its compatibility rules freeze; the parser steps over all other fields.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from flywheel.kernel.ports import CorruptModel

STANDARD_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})

_STRING, _ENUM, _BYTES = "string", "int32", "bytes"
_LAYOUT: Mapping[str, Mapping[str, tuple[int, str]]] = {
    "Model": {
        "graph": (7, "Graph"),
        "opset_import": (8, "Opset"),
        "training_info": (20, _BYTES),
        "functions": (25, _BYTES),
    },
    "Opset": {"domain": (1, _STRING)},
    "Graph": {"node": (1, "Node"), "initializer": (5, "Tensor"), "sparse_initializer": (15, "SparseTensor")},
    "Node": {"attribute": (5, "Attribute"), "domain": (7, _STRING)},
    "Attribute": {
        "t": (5, "Tensor"),
        "g": (6, "Graph"),
        "tensors": (10, "Tensor"),
        "graphs": (11, "Graph"),
        "sparse_tensor": (22, "SparseTensor"),
        "sparse_tensors": (23, "SparseTensor"),
    },
    "SparseTensor": {"values": (1, "Tensor"), "indices": (2, "Tensor")},
    "Tensor": {"external_data": (13, _BYTES), "data_location": (14, _ENUM)},
}
_REFUSED = ("training_info", "functions", "external_data")
_SCALARS = {
    _STRING: FieldDescriptorProto.TYPE_STRING,
    _ENUM: FieldDescriptorProto.TYPE_INT32,
    _BYTES: FieldDescriptorProto.TYPE_BYTES,
}


def check_self_contained(model: bytes) -> None:
    """Raises CorruptModel when the bytes are no ONNX model, or one with foreign operators or data outside itself."""
    parsed = _Model()
    try:
        parsed.ParseFromString(model)
    except DecodeError as error:
        raise CorruptModel("the bytes are no ONNX model") from error
    if not parsed.graph:
        raise CorruptModel("the bytes hold no ONNX graph")
    for name, value in _walk(parsed):
        if name == "domain" and value not in STANDARD_DOMAINS:
            raise CorruptModel(f"the model needs operators of {value!r}, which are not standard")
        if name in _REFUSED:
            raise CorruptModel(f"the model brings {name.replace('_', ' ')}")
        if name == "data_location" and value:
            raise CorruptModel("the model keeps data outside itself")


def _walk(message: Any) -> Iterator[tuple[str, Any]]:
    for field, values in message.ListFields():
        for value in values:
            yield field.name, value
            if isinstance(value, Message):
                yield from _walk(value)


def _descriptors() -> FileDescriptorProto:
    file = FileDescriptorProto(name="flywheel/onnx_inspection.proto", package="flywheel.onnx_inspection")
    for name, fields in _LAYOUT.items():
        message = DescriptorProto(name=name)
        for field, (number, kind) in fields.items():
            # All are read as repeated: whatever a file holds twice is then looked at twice.
            entry = message.field.add(name=field, number=number, label=FieldDescriptorProto.LABEL_REPEATED)
            if kind in _SCALARS:
                entry.type = _SCALARS[kind]
            else:
                entry.type = FieldDescriptorProto.TYPE_MESSAGE
                entry.type_name = f".{file.package}.{kind}"
        file.message_type.append(message)
    return file


def _message_class() -> Any:
    pool = DescriptorPool()
    pool.Add(_descriptors())
    return GetMessageClass(pool.FindMessageTypeByName("flywheel.onnx_inspection.Model"))


_Model = _message_class()
