"""Rows from the tensors of a request: one tensor a feature, by name, or whole rows in one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.serving.inference.tensors import InvalidInference, Tensor

ROWS = "features"
"""Name of the one tensor that brings whole rows, its columns in the declared order."""

_EXACT_BELOW = 1 << 24
_NAMED = 5


def rows_of(inputs: Sequence[Tensor], names: Sequence[str], max_rows: int) -> NDArray[np.float32]:
    """Rows (n, len(names)) for a model, columns in the order of `names`; NaN is a missing value.

    Either one tensor `features` (n, len(names)), or one tensor (n,) or (n, 1) for each name, in any order. Integers
    are taken up to 2**24, where 32-bit floats hold each of them; FP64 is rounded. Raises InvalidInference.
    """
    if [tensor.name for tensor in inputs] == [ROWS]:
        return whole_rows(inputs, len(names), max_rows)
    return _bounded(_joined(inputs, names), max_rows)


def whole_rows(inputs: Sequence[Tensor], width: int, max_rows: int) -> NDArray[np.float32]:
    """Rows (n, width) from the one tensor `features`; a width of -1 is any. Raises InvalidInference."""
    columns = "columns" if width < 0 else width
    if [tensor.name for tensor in inputs] != [ROWS]:
        raise InvalidInference("inputs", "the model takes one tensor", f"send {ROWS} [rows, {columns}]")
    shape = inputs[0].values.shape
    if len(shape) != 2 or width not in (-1, shape[1]):
        raise InvalidInference(ROWS, f"the shape is {list(shape)}", f"send [rows, {columns}]")
    return _bounded(_numbers(inputs[0]), max_rows)


def _bounded(rows: NDArray[np.float32], max_rows: int) -> NDArray[np.float32]:
    if len(rows) > max_rows:
        raise InvalidInference(
            "inputs", f"{len(rows)} rows where {max_rows} are accepted at once", "send them in several requests"
        )
    return rows


def _joined(inputs: Sequence[Tensor], names: Sequence[str]) -> NDArray[np.float32]:
    given = {tensor.name: tensor for tensor in inputs}
    if len(given) != len(inputs):
        raise InvalidInference("inputs", "a name comes twice", "send each feature once")
    hint = f"send one tensor for each of the model's {len(names)} features, or all in one of that name: {ROWS}"
    if extra := [name for name in given if name not in set(names)]:
        raise InvalidInference("inputs", f"the model has no {_some(extra)}", hint)
    if missing := [name for name in names if name not in given]:
        raise InvalidInference("inputs", f"there is no {_some(missing)}", hint)
    columns = [_column(given[name]) for name in names]
    counts = {len(column) for column in columns}
    if len(counts) > 1:
        raise InvalidInference("inputs", "some features have more rows than others", "send each feature of every row")
    return np.stack(columns, axis=1)


def _column(tensor: Tensor) -> NDArray[np.float32]:
    shape = tensor.values.shape
    if len(shape) > 2 or shape[1:] not in ((), (1,)):
        raise InvalidInference(tensor.name, f"the shape is {list(shape)}", "send [rows] or [rows, 1]")
    return _numbers(tensor).reshape(-1)


def _numbers(tensor: Tensor) -> NDArray[np.float32]:
    values = tensor.values
    if values.dtype.kind == "b":
        raise InvalidInference(tensor.name, "a BOOL is no number", "send FP32, FP64, INT32 or INT64")
    if values.dtype.kind != "f":
        _check_exact(tensor.name, values)
    with np.errstate(over="ignore"):
        numbers = values.astype(np.float32)
    if np.isinf(numbers).any():
        raise InvalidInference(
            tensor.name,
            f"element {_first(np.isinf(numbers))} is infinite",
            "send finite numbers, NaN where one is missing",
        )
    return numbers


def _check_exact(name: str, values: NDArray[Any]) -> None:
    beyond = (values > _EXACT_BELOW) | (values < -_EXACT_BELOW) if values.dtype.itemsize > 2 else np.zeros(0, bool)
    if beyond.any():
        raise InvalidInference(
            name,
            f"element {_first(beyond)} is beyond 2**24, where 32-bit floats leave integers out",
            "send FP64 if it may be rounded",
        )


def _first(found: NDArray[np.bool_]) -> int:
    return int(np.argmax(found.reshape(-1)))


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(repr(name[:64]) for name in names[:_NAMED]) + more
