"""Reads chosen fields of ONNX files without the onnx package.

Only the fields asked for are described to the protobuf parser, which steps over all others. Their numbers are those
of onnx.proto, which its compatibility rules freeze.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

STRING, ENUM, BYTES, FLOAT, INTEGER = "string", "int32", "bytes", "float", "int64"

Layout = Mapping[str, Mapping[str, tuple[int, str]]]
"""Messages by name: of each field its number, and its type or the message that it holds."""

_SCALARS = {
    STRING: FieldDescriptorProto.TYPE_STRING,
    ENUM: FieldDescriptorProto.TYPE_INT32,
    BYTES: FieldDescriptorProto.TYPE_BYTES,
    FLOAT: FieldDescriptorProto.TYPE_FLOAT,
    INTEGER: FieldDescriptorProto.TYPE_INT64,
}


def message_class(layout: Layout, name: str) -> Any:
    """The class of the message of that name. All fields are repeated: what a file holds twice is looked at twice."""
    pool = DescriptorPool()
    file = FileDescriptorProto(name="flywheel/onnx.proto", package="flywheel.onnx")
    file.message_type.extend(_message(file.package, each, fields) for each, fields in layout.items())
    pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName(f"{file.package}.{name}"))


def _message(package: str, name: str, fields: Mapping[str, tuple[int, str]]) -> DescriptorProto:
    message = DescriptorProto(name=name)
    for field, (number, kind) in fields.items():
        entry = message.field.add(name=field, number=number, label=FieldDescriptorProto.LABEL_REPEATED)
        if kind in _SCALARS:
            entry.type = _SCALARS[kind]
        else:
            entry.type = FieldDescriptorProto.TYPE_MESSAGE
            entry.type_name = f".{package}.{kind}"
    return message
