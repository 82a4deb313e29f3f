"""Tensors of the Open Inference Protocol and the arrays they stand for. Nothing is guessed, nothing converted."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

DATATYPES: Mapping[str, np.dtype[Any]] = {
    name: np.dtype(code)
    for name, code in {
        "BOOL": "?",
        "UINT8": "<u1",
        "UINT16": "<u2",
        "UINT32": "<u4",
        "UINT64": "<u8",
        "INT8": "<i1",
        "INT16": "<i2",
        "INT32": "<i4",
        "INT64": "<i8",
        "FP16": "<f2",
        "FP32": "<f4",
        "FP64": "<f8",
    }.items()
}
_NAMES = {dtype: name for name, dtype in DATATYPES.items()}
MAX_DIMENSIONS = 8


class InvalidInference(ValueError):
    """The request cannot be served as it is: which part of it, why, and what would be right."""

    def __init__(self, field: str, reason: str, hint: str) -> None:
        super().__init__(f"{field}: {reason}; {hint}")
        self.field = field
        self.reason = reason
        self.hint = hint


@dataclass(frozen=True)
class Tensor:
    """A named array whose element type is one of DATATYPES."""

    name: str
    values: NDArray[Any]

    @property
    def datatype(self) -> str:
        return _NAMES[self.values.dtype]

    def to_bytes(self) -> bytes:
        """Elements little-endian, row by row."""
        return self.values.tobytes()


def from_bytes(name: str, datatype: str, shape: Sequence[int], content: bytes) -> Tensor:
    """The tensor whose elements are `content`, little-endian and row by row. Raises InvalidInference."""
    dtype, count = _layout(name, datatype, shape)
    if len(content) != count * dtype.itemsize:
        raise InvalidInference(
            name,
            f"{len(content)} bytes where the shape {list(shape)} of {datatype} takes {count * dtype.itemsize}",
            "send all elements, row by row and without padding",
        )
    values = np.frombuffer(content, "u1" if datatype == "BOOL" else dtype)
    if datatype == "BOOL" and values.size and values.max() > 1:
        raise InvalidInference(name, "a BOOL is neither 0 nor 1", "send one byte an element, 0 or 1")
    return Tensor(name, values.astype(dtype, copy=False).reshape(shape))


def from_values(name: str, datatype: str, shape: Sequence[int], values: Sequence[Any]) -> Tensor:
    """The tensor of these elements, given row by row as plain Python values. Raises InvalidInference.

    Each must be what the datatype says: no flag for a number, no fraction for an integer, nothing out of range.
    In floating-point tensors None stands for NaN.
    """
    dtype, count = _layout(name, datatype, shape)
    _check_count(name, shape, len(values), count)
    _check_kinds(name, datatype, dtype, values)
    if dtype.kind == "f":
        values = [math.nan if value is None else value for value in values]
    try:
        # What is beyond the range of a float becomes infinite, which models do not take.
        with np.errstate(over="ignore"):
            found = np.array(values, dtype)
    except OverflowError as error:
        raise _out_of_range(name, datatype) from error
    return Tensor(name, found.reshape(shape))


def from_array(name: str, datatype: str, shape: Sequence[int], values: NDArray[Any]) -> Tensor:
    """The tensor of these elements, given row by row in an array of their kind. Raises InvalidInference."""
    dtype, count = _layout(name, datatype, shape)
    _check_count(name, shape, len(values), count)
    if dtype.kind in "iu":
        bounds = np.iinfo(dtype)
        if values.min() < bounds.min or values.max() > bounds.max:
            raise _out_of_range(name, datatype)
    return Tensor(name, values.astype(dtype, copy=False).reshape(shape))


def check_size(shapes: Iterable[Sequence[int]], max_elements: int | None) -> None:
    """Raises InvalidInference when tensors of these shapes have more elements than that; None: as many as come."""
    if max_elements is None:
        return
    elements = sum(math.prod(shape) for shape in shapes if len(shape) <= MAX_DIMENSIONS)
    if elements > max_elements:
        raise InvalidInference(
            "inputs",
            f"{elements} elements where the model takes {max_elements} at once",
            "send fewer rows",
        )


def _check_count(name: str, shape: Sequence[int], given: int, count: int) -> None:
    if given != count:
        raise InvalidInference(
            name, f"{given} elements where the shape {list(shape)} takes {count}", "send one for each place"
        )


def _out_of_range(name: str, datatype: str) -> InvalidInference:
    return InvalidInference(name, f"an element is out of the range of {datatype}", "use a wider datatype")


def _layout(name: str, datatype: str, shape: Sequence[int]) -> tuple[np.dtype[Any], int]:
    dtype = DATATYPES.get(datatype)
    if dtype is None:
        raise InvalidInference(name, f"the datatype {datatype!r} is not served", f"use one of {', '.join(DATATYPES)}")
    if not 1 <= len(shape) <= MAX_DIMENSIONS or min(shape) < 1:
        raise InvalidInference(
            name, f"the shape {list(shape)[:9]} is none", f"give 1 to {MAX_DIMENSIONS} sizes of at least 1"
        )
    return dtype, math.prod(shape)


def _check_kinds(name: str, datatype: str, dtype: np.dtype[Any], values: Sequence[Any]) -> None:
    kinds = _KINDS[dtype.kind]
    for place, value in enumerate(values):
        if type(value) not in kinds:
            raise InvalidInference(name, f"element {place} is no {datatype}", "send elements of the tensor's datatype")


_KINDS: Mapping[str, frozenset[type]] = {
    "b": frozenset({bool}),
    "i": frozenset({int}),
    "u": frozenset({int}),
    "f": frozenset({int, float, type(None)}),
}
