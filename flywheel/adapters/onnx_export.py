"""Writes trained models as ONNX: one float tensor (n, features) in, the probability of the positive label (n,) out.

Trees are written from LightGBM's own dump. Its thresholds are double precision and the exported ones are single, so
each is rounded *down*: for every single-precision input `x`, `x <= threshold` then holds in both or in neither.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import orjson
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

_OPSET = (helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3))
_IR_VERSION = 9
_INPUT, _OUTPUT = "features", "probability"


@dataclass(frozen=True)
class LogisticWeights:
    """A logistic regression on `(squash(x) - mean) / scale`, where `squash(x) = sign(x) ln(1 + |x|)`, NaN read as 0."""

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    coefficients: NDArray[np.float64]
    intercept: float


def export_logistic(weights: LogisticWeights) -> bytes:
    """The regression as an ONNX file."""
    # Standardising is folded into the weights: one product less, and no difference of large numbers.
    slopes = weights.coefficients / weights.scale
    constant = weights.intercept - float(slopes @ weights.mean)
    nodes = [
        helper.make_node("IsNaN", [_INPUT], ["absent"]),
        helper.make_node("Where", ["absent", "zero", _INPUT], ["filled"]),
        helper.make_node("Abs", ["filled"], ["size"]),
        helper.make_node("Add", ["size", "one"], ["above_one"]),
        helper.make_node("Log", ["above_one"], ["logarithm"]),
        helper.make_node("Sign", ["filled"], ["sign"]),
        helper.make_node("Mul", ["logarithm", "sign"], ["squashed"]),
        helper.make_node("MatMul", ["squashed", "slopes"], ["products"]),
        *_to_probability("products", slope=1.0),
    ]
    constants = [_float("zero", 0.0), _float("one", 1.0), numpy_helper.from_array(_column(slopes), "slopes")]
    return _model(nodes, [*constants, *_link_constants(1.0, constant)], len(slopes), means=weights.mean.tolist())


def export_boosted(dump: Mapping[str, Any], slope: float, intercept: float) -> bytes:
    """A LightGBM model (`Booster.dump_model()`) whose probability is `sigmoid(slope * margin + intercept)`.

    Raises ValueError for what is not translated: categorical splits and zeros read as missing.
    """
    nodes = _Nodes()
    for tree, description in enumerate(dump["tree_info"]):
        nodes.add_tree(tree, description["tree_structure"])
    ensemble = helper.make_node(
        "TreeEnsembleRegressor", [_INPUT], ["margins"], domain="ai.onnx.ml", n_targets=1, **nodes.attributes()
    )
    graph = [ensemble, *_to_probability("margins", slope)]
    return _model(graph, _link_constants(slope, intercept), int(dump["max_feature_idx"]) + 1)


@dataclass
class _Nodes:
    """The nodes of all trees in the columns that ONNX keeps them in."""

    rows: list[tuple[int, int, int, str, float, int, int, int, float]] = field(default_factory=list)
    leaves: list[tuple[int, int, float]] = field(default_factory=list)

    def add_tree(self, tree: int, structure: Mapping[str, Any]) -> None:
        numbers: Iterator[int] = iter(range(1 << 30))
        self._add(tree, structure, numbers)

    def _add(self, tree: int, node: Mapping[str, Any], numbers: Iterator[int]) -> int:
        number = next(numbers)
        if "leaf_value" in node and "split_feature" not in node:
            self.rows.append((tree, number, 0, "LEAF", 0.0, 0, 0, 0, float(node.get("leaf_count", 0))))
            self.leaves.append((tree, number, float(node["leaf_value"])))
            return number
        place = len(self.rows)
        self.rows.append((tree, number, 0, "LEAF", 0.0, 0, 0, 0, 0.0))
        left = self._add(tree, node["left_child"], numbers)
        right = self._add(tree, node["right_child"], numbers)
        threshold = _round_down(_threshold(node))
        absent_left = int(_absent_goes_left(node))
        self.rows[place] = (
            tree,
            number,
            int(node["split_feature"]),
            "BRANCH_LEQ",
            threshold,
            left,
            right,
            absent_left,
            float(node.get("internal_count", 0)),
        )
        return number

    def attributes(self) -> dict[str, Sequence[int] | Sequence[float] | Sequence[str]]:
        names = (
            "nodes_treeids",
            "nodes_nodeids",
            "nodes_featureids",
            "nodes_modes",
            "nodes_values",
            "nodes_truenodeids",
            "nodes_falsenodeids",
            "nodes_missing_value_tracks_true",
            # Nothing that runs the model reads them: they are what an explanation weighs branches by.
            "nodes_hitrates",
        )
        columns = dict(zip(names, map(list, zip(*self.rows, strict=True)), strict=True))
        trees, numbers, weights = zip(*self.leaves, strict=True)
        return {
            **columns,
            "target_treeids": trees,
            "target_nodeids": numbers,
            "target_ids": [0] * len(trees),
            "target_weights": weights,
        }


def _threshold(node: Mapping[str, Any]) -> float:
    if node["decision_type"] != "<=" or node["missing_type"] == "Zero":
        raise ValueError(
            f"a split by {node['decision_type']!r} with missing {node['missing_type']!r} is not translated"
        )
    return float(node["threshold"])


def _absent_goes_left(node: Mapping[str, Any]) -> bool:
    # Where training met no NaN in a feature, LightGBM reads one as 0.
    return bool(node["default_left"]) if node["missing_type"] == "NaN" else float(node["threshold"]) >= 0


def _round_down(threshold: float) -> float:
    # A split of missing values from all others has the largest double as its threshold.
    with np.errstate(over="ignore"):
        single = np.float32(threshold)
    if float(single) > threshold:
        single = np.nextafter(single, np.float32(-np.inf))
    return float(single)


def _to_probability(margins: str, slope: float) -> list[onnx.NodeProto]:
    scaled = [helper.make_node("Mul", [margins, "link_slope"], ["scaled"])] if slope != 1.0 else []
    return [
        *scaled,
        helper.make_node("Add", ["scaled" if scaled else margins, "link_intercept"], ["shifted"]),
        helper.make_node("Sigmoid", ["shifted"], ["probabilities"]),
        helper.make_node("Reshape", ["probabilities", "flat"], [_OUTPUT]),
    ]


def _link_constants(slope: float, intercept: float) -> list[onnx.TensorProto]:
    constants = [_float("link_intercept", intercept), numpy_helper.from_array(np.array([-1], np.int64), "flat")]
    return constants if slope == 1.0 else [*constants, _float("link_slope", slope)]


def _float(name: str, value: float) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(value, np.float32), name)


def _column(values: NDArray[np.float64]) -> NDArray[np.float32]:
    return values.astype(np.float32).reshape(-1, 1)


def _model(
    nodes: list[onnx.NodeProto], constants: list[onnx.TensorProto], features: int, **properties: Sequence[float]
) -> bytes:
    graph = helper.make_graph(
        nodes,
        "score",
        [helper.make_tensor_value_info(_INPUT, TensorProto.FLOAT, ["n", features])],
        [helper.make_tensor_value_info(_OUTPUT, TensorProto.FLOAT, ["n"])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=_OPSET, ir_version=_IR_VERSION, producer_name="flywheel")
    helper.set_model_props(model, {name: orjson.dumps(list(values)).decode() for name, values in properties.items()})
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())
