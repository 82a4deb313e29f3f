"""Makes explanations of a published ONNX model from its own file: its trees, or its weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from flywheel.adapters.onnx_fields import BYTES, ENUM, FLOAT, INTEGER, STRING, Layout, message_class
from flywheel.kernel.attribution import Attributor, LinearAttributor, NotExplainable, TreeAttributor, Trees

_LAYOUT: Layout = {
    "Model": {"graph": (7, "Graph"), "metadata_props": (14, "Property")},
    "Property": {"key": (1, STRING), "value": (2, STRING)},
    "Graph": {"node": (1, "Node"), "initializer": (5, "Tensor"), "input": (11, "ValueInfo")},
    "ValueInfo": {"name": (1, STRING)},
    "Node": {
        "input": (1, STRING),
        "output": (2, STRING),
        "op_type": (4, STRING),
        "attribute": (5, "Attribute"),
    },
    "Attribute": {
        "name": (1, STRING),
        "i": (3, INTEGER),
        "s": (4, BYTES),
        "floats": (7, FLOAT),
        "ints": (8, INTEGER),
        "strings": (9, BYTES),
    },
    "Tensor": {"data_type": (2, ENUM), "float_data": (4, FLOAT), "name": (8, STRING), "raw_data": (9, BYTES)},
}
_Model = message_class(_LAYOUT, "Model")
_FLOAT32 = 1
_AFTER_SIGMOID = frozenset({"Reshape", "Squeeze", "Flatten", "Identity"})
_LINEAR = ("IsNaN", "Where", "Abs", "Add", "Log", "Sign", "Mul", "MatMul", "Add", "Sigmoid", "Reshape")


def attributor_of(model: bytes, features: int) -> Attributor:
    """Explains the model, which takes that many features. Raises NotExplainable when it cannot be done exactly."""
    parsed = _Model()
    try:
        parsed.ParseFromString(model)
    except DecodeError as error:
        raise NotExplainable("the bytes are no ONNX model") from error
    if len(parsed.graph) != 1:
        raise NotExplainable("the model has no graph")
    (graph,) = parsed.graph
    operators = tuple(_one(node.op_type) for node in graph.node)
    constants = {_one(tensor.name): _values(tensor) for tensor in graph.initializer}
    if operators == _LINEAR:
        properties = {_one(entry.key): _one(entry.value) for entry in parsed.metadata_props}
        return _linear(graph, constants, properties)
    if operators and operators[0] == "TreeEnsembleRegressor":
        return _trees(graph, constants, features)
    raise NotExplainable(f"a model of {', '.join(sorted(set(operators)))} is not explained")


def _linear(graph: Any, constants: Mapping[str, NDArray[np.float64]], properties: Mapping[str, str]) -> Attributor:
    if "means" not in properties:
        raise NotExplainable("the model does not say what its features were on average")
    weights = constants[graph.node[_LINEAR.index("MatMul")].input[1]]
    means = np.array(orjson.loads(properties["means"]), np.float64)
    if means.shape != weights.shape:
        raise NotExplainable("the model has not one mean for each weight")
    return LinearAttributor(weights, means, intercept=_scalar(graph.node[8], constants))


def _trees(graph: Any, constants: Mapping[str, NDArray[np.float64]], features: int) -> Attributor:
    trees, *others = graph.node
    if list(trees.input) != [_one(each.name) for each in graph.input if _one(each.name) not in constants]:
        raise NotExplainable("the trees do not read the model's input as it is")
    slope, intercept = _link(trees, others, constants)
    attributes = {_one(attribute.name): attribute for attribute in trees.attribute}
    _check(attributes)
    base = list(attributes["base_values"].floats) if "base_values" in attributes else []
    return TreeAttributor(_nodes(attributes), features, slope=slope, intercept=intercept + slope * math.fsum(base))


def _link(trees: Any, others: Sequence[Any], constants: Mapping[str, NDArray[np.float64]]) -> tuple[float, float]:
    """Slope and intercept of the log-odds on the sum of the trees."""
    slope, intercept, name = 1.0, 0.0, _one(trees.output)
    is_probability = False
    for node in others:
        operator = _one(node.op_type)
        if name not in node.input:
            raise NotExplainable("the model is no chain of operators")
        if operator == "Sigmoid" and not is_probability:
            is_probability = True
        elif operator == "Mul" and not is_probability:
            factor = _scalar(node, constants)
            slope, intercept = slope * factor, intercept * factor
        elif operator == "Add" and not is_probability:
            intercept += _scalar(node, constants)
        elif operator not in _AFTER_SIGMOID or not is_probability:
            raise NotExplainable(f"{operator} after the trees is not explained")
        name = _one(node.output)
    if not is_probability:
        raise NotExplainable("the model's answer is no sigmoid of its trees")
    return slope, intercept


def _check(attributes: Mapping[str, Any]) -> None:
    targets = attributes["n_targets"].i if "n_targets" in attributes else [1]
    transform = attributes["post_transform"].s if "post_transform" in attributes else [b"NONE"]
    combined = attributes["aggregate_function"].s if "aggregate_function" in attributes else [b"SUM"]
    if (list(targets), list(transform), list(combined)) != ([1], [b"NONE"], [b"SUM"]):
        raise NotExplainable("the trees are not simply added up")
    if not set(attributes["nodes_modes"].strings) <= {b"BRANCH_LEQ", b"LEAF"}:
        raise NotExplainable("the trees ask other questions than whether a value is at most a threshold")
    if "nodes_hitrates" not in attributes:
        raise NotExplainable("the model does not say how many training rows came to its nodes")


def _nodes(attributes: Mapping[str, Any]) -> Trees:
    def integers(name: str) -> NDArray[np.int64]:
        return np.array(attributes[name].ints, np.int64)

    def floats(name: str) -> NDArray[np.float64]:
        return np.array(attributes[name].floats, np.float64)

    tree, node = integers("nodes_treeids"), integers("nodes_nodeids")
    stride = int(max(node.max(), integers("target_nodeids").max())) + 1
    place = np.full((int(tree.max()) + 1) * stride, -1, np.int64)
    place[tree * stride + node] = np.arange(len(node))
    is_leaf = np.array([mode == b"LEAF" for mode in attributes["nodes_modes"].strings])
    value = np.zeros(len(node))
    np.add.at(value, place[integers("target_treeids") * stride + integers("target_nodeids")], floats("target_weights"))
    absent = attributes.get("nodes_missing_value_tracks_true")
    return Trees(
        left=np.where(is_leaf, -1, place[tree * stride + integers("nodes_truenodeids")]),
        right=np.where(is_leaf, -1, place[tree * stride + integers("nodes_falsenodeids")]),
        feature=integers("nodes_featureids"),
        threshold=floats("nodes_values"),
        absent_left=np.array(absent.ints, bool) if absent is not None else np.zeros(len(node), bool),
        value=value,
        cover=floats("nodes_hitrates"),
    )


def _scalar(node: Any, constants: Mapping[str, NDArray[np.float64]]) -> float:
    found = [constants[name] for name in node.input if name in constants]
    if len(found) != 1 or found[0].size != 1:
        raise NotExplainable("the model does more than shift and scale its margin")
    return float(found[0][0])


def _values(tensor: Any) -> NDArray[np.float64]:
    if list(tensor.data_type) != [_FLOAT32]:
        return np.zeros(0)
    raw = np.frombuffer(_one(tensor.raw_data), "<f4") if tensor.raw_data else np.array(tensor.float_data, np.float32)
    return raw.astype(np.float64)


def _one(values: Sequence[Any]) -> Any:
    if len(values) != 1:
        raise NotExplainable("a field that ONNX has once is there several times, or not at all")
    return values[0]
