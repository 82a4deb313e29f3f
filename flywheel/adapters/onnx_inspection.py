"""Reads what an ONNX file refers to, without the onnx package and without running anything.

Only the parts that matter are walked: operator domains and the storage of tensors. Field numbers are those of
onnx.proto, which are frozen by the format's compatibility rules.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from flywheel.kernel.ports import CorruptModel

STANDARD_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_EXTERNAL = 1
_MAX_DEPTH = 32

_CHILDREN: Mapping[str, Mapping[int, str]] = {
    "model": {7: "graph", 8: "opset"},
    "graph": {1: "node", 5: "tensor", 15: "sparse_tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse_tensor", 23: "sparse_tensor"},
    "sparse_tensor": {1: "tensor", 2: "tensor"},
    "tensor": {},
    "opset": {},
}
_DOMAIN = {"opset": 1, "node": 7}
_REFUSED = {"model": {20: "training information", 25: "functions of its own"}, "tensor": {13: "external data"}}
_DATA_LOCATION = 14


def check_self_contained(model: bytes) -> None:
    """Raises CorruptModel when the bytes are no ONNX model, or one with foreign operators or data outside itself."""
    seen = set()
    for kind, number, value in _walk("model", memoryview(model), 0):
        seen.add((kind, number))
        if number == _DOMAIN.get(kind):
            _check_domain(value)
        if number in _REFUSED.get(kind, {}):
            raise CorruptModel(f"the model brings {_REFUSED[kind][number]}")
        if kind == "tensor" and number == _DATA_LOCATION and value == _EXTERNAL:
            raise CorruptModel("the model brings external data")
    if ("model", 7) not in seen:
        raise CorruptModel("the bytes hold no ONNX graph")


def _check_domain(value: int | memoryview) -> None:
    domain = bytes(value).decode(errors="replace") if isinstance(value, memoryview) else str(value)
    if domain not in STANDARD_DOMAINS:
        raise CorruptModel(f"the model needs operators of {domain!r}, which are not standard")


def _walk(kind: str, message: memoryview, depth: int) -> Iterator[tuple[str, int, int | memoryview]]:
    if depth > _MAX_DEPTH:
        raise CorruptModel("the model is nested too deeply")
    for number, value in _fields(message):
        yield kind, number, value
        child = _CHILDREN[kind].get(number)
        if child is not None and isinstance(value, memoryview):
            yield from _walk(child, value, depth + 1)


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        wire = tag & 7
        if wire == _VARINT:
            value, at = _varint(message, at)
            yield tag >> 3, value
            continue
        if wire == _BYTES:
            size, at = _varint(message, at)
        elif wire in (_FIXED32, _FIXED64):
            size = 4 if wire == _FIXED32 else 8
        else:
            raise CorruptModel("the bytes are no ONNX model")
        if at + size > len(message):
            raise CorruptModel("the model is cut off")
        yield tag >> 3, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise CorruptModel("the model is cut off")
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise CorruptModel("the bytes are no ONNX model")
