"""Smaller forms of a model: int8 weights with activations quantized as they come, or weights kept in half precision.

Both change matrices alone. A tree ensemble is thresholds and leaves: single precision thresholds decide the branches,
there is no product that integers could speed up, and ONNX Runtime has no smaller form of the operator.
"""

from __future__ import annotations

import tempfile
from enum import StrEnum
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

_MATRIX_OPERATORS = ("MatMul", "Gemm")
_TREES = ("TreeEnsembleRegressor", "TreeEnsembleClassifier", "TreeEnsemble")
_LEAST_WEIGHTS = 64
_LEAST_GAIN = 0.9


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
    made = _int8(model) if kind is VariantKind.INT8 else _fp16(parsed, matrices)
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


def _int8(model: bytes) -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        original, made = Path(directory) / "original.onnx", Path(directory) / "int8.onnx"
        original.write_bytes(model)
        quantize_dynamic(original, made, op_types_to_quantize=list(_MATRIX_OPERATORS), weight_type=QuantType.QInt8)
        return made.read_bytes()


def _fp16(parsed: onnx.ModelProto, matrices: set[str]) -> bytes:
    """The matrices in half precision, widened where they are used: products stay in single precision."""
    graph = parsed.graph
    widened = []
    for tensor in [tensor for tensor in graph.initializer if tensor.name in matrices]:
        halved = numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), f"{tensor.name}_fp16")
        widened.append(helper.make_node("Cast", [halved.name], [tensor.name], to=TensorProto.FLOAT))
        graph.initializer.remove(tensor)
        graph.initializer.append(halved)
    nodes = [*widened, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(parsed)
    return bytes(parsed.SerializeToString())
