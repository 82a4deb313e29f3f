"""Reads what an ONNX file refers to, operator domains and where tensors keep their data, without running anything."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf.message import DecodeError, Message

from flywheel.adapters.onnx_fields import BYTES, ENUM, STRING, Layout, message_class
from flywheel.kernel.ports import CorruptModel

STANDARD_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})

_LAYOUT: Layout = {
    "Model": {
        "graph": (7, "Graph"),
        "opset_import": (8, "Opset"),
        "training_info": (20, BYTES),
        "functions": (25, BYTES),
    },
    "Opset": {"domain": (1, STRING)},
    "Graph": {"node": (1, "Node"), "initializer": (5, "Tensor"), "sparse_initializer": (15, "SparseTensor")},
    "Node": {"attribute": (5, "Attribute"), "domain": (7, STRING)},
    "Attribute": {
        "t": (5, "Tensor"),
        "g": (6, "Graph"),
        "tensors": (10, "Tensor"),
        "graphs": (11, "Graph"),
        "sparse_tensor": (22, "SparseTensor"),
        "sparse_tensors": (23, "SparseTensor"),
    },
    "SparseTensor": {"values": (1, "Tensor"), "indices": (2, "Tensor")},
    "Tensor": {"external_data": (13, BYTES), "data_location": (14, ENUM)},
}
_REFUSED = ("training_info", "functions", "external_data")


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


_Model = message_class(_LAYOUT, "Model")
