"""Smaller forms of a model: the weights of its matrices kept in half precision, or as int8 with a scale a column.

Products stay in single precision, so that a row's score depends on nothing but the row. (Quantizing activations as they
come takes their range from all rows of a run: whoever is decided beside somebody would change that answer.) A tree
ensemble is thresholds and leaves; ONNX Runtime has no smaller form of the operator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

_MATRIX_OPERATORS = ("MatMul", "Gemm")
_TREES = frozenset({"TreeEnsembleRegressor", "TreeEnsembleClassifier", "TreeEnsemble"})
_LEAST_WEIGHTS = 64
_LEAST_GAIN = 0.9


_Narrow = Callable[[str, NDArray[np.float32]], Iterator[Any]]


class VariantKind(StrEnum):
    """How a model is made smaller."""

    INT8 = "int8"
    FP16 = "fp16"


class NothingGained(ValueError):
    """The model has no such form, or one that is hardly smaller."""


def smaller(model: bytes, kind: VariantKind) -> bytes:
    """The model in that form. Raises NothingGained."""
    parsed = onnx.load_from_string(model)
    matrices = _matrices(parsed)
    if not matrices:
        trees = any(node.op_type in _TREES for node in parsed.graph.node)
        raise NothingGained(
            "its weights are trees, of which no smaller form is faster or smaller"
            if trees
            else f"it has no matrix of {_LEAST_WEIGHTS} weights or more"
        )
    made = _narrowed(parsed, matrices, _int8 if kind is VariantKind.INT8 else _fp16)
    if len(made) > _LEAST_GAIN * len(model):
        raise NothingGained(f"as {kind} it would have {len(made)} bytes instead of {len(model)}")
    return made


def _matrices(parsed: onnx.ModelProto) -> set[str]:
    """Names of the constant single-precision factors of matrix products."""
    used = {name for node in parsed.graph.node if node.op_type in _MATRIX_OPERATORS for name in node.input}
    return {
        tensor.name
        for tensor in parsed.graph.initializer
        if tensor.name in used and tensor.data_type == TensorProto.FLOAT and np.prod(tensor.dims) >= _LEAST_WEIGHTS
    }


def _narrowed(parsed: onnx.ModelProto, matrices: set[str], narrow: _Narrow) -> bytes:
    """The model with its matrices narrowed, widened again by nodes where they are used."""
    graph = parsed.graph
    widening: list[onnx.NodeProto] = []
    for tensor in [tensor for tensor in graph.initializer if tensor.name in matrices]:
        graph.initializer.remove(tensor)
        for part in narrow(tensor.name, numpy_helper.to_array(tensor)):
            (graph.initializer if isinstance(part, TensorProto) else widening).append(part)
    nodes = [*widening, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(parsed)
    return bytes(parsed.SerializeToString())


def _fp16(name: str, weights: NDArray[np.float32]) -> Iterator[Any]:
    yield numpy_helper.from_array(weights.astype(np.float16), f"{name}_fp16")
    yield helper.make_node("Cast", [f"{name}_fp16"], [name], to=TensorProto.FLOAT)


def _int8(name: str, weights: NDArray[np.float32]) -> Iterator[Any]:
    axis = weights.ndim - 1
    largest = np.abs(weights).max(axis=tuple(range(axis)))
    scale = (np.where(largest > 0, largest, 1) / 127).astype(np.float32)
    yield numpy_helper.from_array(np.round(weights / scale).astype(np.int8), f"{name}_int8")
    yield numpy_helper.from_array(scale, f"{name}_scale")
    yield helper.make_node("DequantizeLinear", [f"{name}_int8", f"{name}_scale"], [name], axis=axis)
