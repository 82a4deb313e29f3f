"""A smaller form of a model is published only where something is gained and no decision is lost."""

from __future__ import annotations

import sys
from datetime import UTC, datetime

import lightgbm
import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from flywheel.adapters.memory_model_store import MemoryModelStore
from flywheel.adapters.onnx_export import export_boosted
from flywheel.adapters.onnx_scorer import OnnxScorer
from flywheel.adapters.onnx_variants import VariantKind
from flywheel.client.errors import ClientError
from flywheel.client.variants import publish_variant
from flywheel.kernel.variants import Tolerance, adjacent, judge_variant, thresholds_of
from tests.serving_parts import USECASE, manifest_of

NOW = datetime(2026, 11, 1, tzinfo=UTC)
POLICY = USECASE.costs
WIDTH = len(USECASE.feature_names)
HIDDEN = 64


def rows_of(seed: int, number: int) -> NDArray[np.float32]:
    """Rows as payments have them: amounts in cents, all else small."""
    rng = np.random.default_rng(seed)
    rows = rng.uniform(0, 1, (number, WIDTH)).astype(np.float32)
    rows[:, USECASE.feature_names.index(POLICY.amount_field)] = rng.uniform(1_000, 20_000, number)
    return rows


def network(seed: int = 1) -> bytes:
    """Two layers of matrix products, the first as wide as the features; amounts are scaled down."""
    rng = np.random.default_rng(seed)
    scale = np.ones(WIDTH, np.float32)
    scale[USECASE.feature_names.index(POLICY.amount_field)] = 1 / 20_000
    weights = {
        "scale": scale,
        "first": rng.normal(0, 0.4, (WIDTH, HIDDEN)).astype(np.float32),
        "second": rng.normal(0, 0.4, (HIDDEN, HIDDEN)).astype(np.float32),
        "third": rng.normal(0, 0.4, (HIDDEN, 1)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Mul", ["features", "scale"], ["scaled"]),
        helper.make_node("MatMul", ["scaled", "first"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "second"], ["c"]),
        helper.make_node("Tanh", ["c"], ["d"]),
        helper.make_node("MatMul", ["d", "third"], ["margin"]),
        helper.make_node("Sigmoid", ["margin"], ["probability"]),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", WIDTH])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["n", 1])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return bytes(made.SerializeToString())


def trees() -> bytes:
    rows = rows_of(3, 600)
    labels = rows[:, 3] + rows[:, 4] > 1
    data = lightgbm.Dataset(rows, labels)
    booster = lightgbm.train({"objective": "binary", "verbosity": -1, "num_threads": 1}, data, 5)
    return export_boosted(booster.dump_model(), 1.0, 0.0)


def stored(model: bytes) -> MemoryModelStore:
    store, rows = MemoryModelStore(), rows_of(5, 32)
    golden = {
        "golden_inputs": tuple(map(tuple, rows.tolist())),
        "golden_scores": tuple(OnnxScorer(model).score(rows).tolist()),
    }
    store.publish(manifest_of("v1", model, **golden), model)
    return store


@pytest.mark.parametrize(("kind", "difference"), [(VariantKind.FP16, 0.002), (VariantKind.INT8, 0.05)])
def test_a_network_gains_and_its_variant_is_a_version_that_serves(kind: VariantKind, difference: float) -> None:
    store = stored(network())
    tolerance = Tolerance(difference=difference, flips=sys.maxsize)
    made = publish_variant(USECASE, store, "v1", kind, tolerance, NOW)
    manifest, small = store.load("fraud", f"v1-{kind}")
    assert manifest == made
    assert manifest.variant_of == "v1"
    assert len(small) < 0.6 * len(store.load("fraud", "v1")[1])
    rows = rows_of(6, 500)
    far = np.abs(OnnxScorer(small).score(rows) - OnnxScorer(network()).score(rows)).max()
    assert 0 < far <= difference
    assert [gate.name for gate in manifest.gates[-3:]] == [
        "variant_difference",
        "variant_alone",
        "variant_flips",
    ]


def test_a_variant_beyond_its_tolerance_is_not_published() -> None:
    store = stored(network())
    with pytest.raises(ClientError, match="variant_difference"):
        publish_variant(USECASE, store, "v1", VariantKind.INT8, Tolerance(difference=1e-6), NOW)
    assert store.versions("fraud") == ["v1"]


def test_trees_gain_nothing_and_the_answer_says_so() -> None:
    for kind in VariantKind:
        with pytest.raises(ClientError, match=f"nothing is gained by {kind} for v1: its weights are trees"):
            publish_variant(USECASE, stored(trees()), "v1", kind, Tolerance(), NOW)


def line(shift: float = 0.0) -> object:
    """Scores that are the first column, shifted."""
    return lambda rows: np.asarray(rows[:, 0], np.float64) + shift


def ladder(number: int = 5) -> NDArray[np.float32]:
    return np.linspace(0, 1, number, dtype=np.float32)[:, None]


def test_rows_are_found_next_to_each_threshold() -> None:
    found = adjacent(line(), ladder(), [0.3], 0.01)  # type: ignore[arg-type]
    assert {round(float(value), 4) for value in found[:, 0]} == {0.29, 0.31}


@pytest.mark.parametrize(("shift", "passes"), [(0.0, True), (0.0015, True), (0.004, False), (-0.004, False)])
def test_a_shift_beyond_the_margin_is_another_action(shift: float, passes: bool) -> None:
    gates = judge_variant(line(), line(shift), ladder(), POLICY, [5_000.0], Tolerance())  # type: ignore[arg-type]
    assert len(thresholds_of(POLICY, 5_000.0)) == 2
    assert [gate.passed for gate in gates] == [True, True, passes]


def test_what_cannot_be_measured_fails() -> None:
    flat = ladder()[:1]
    gates = judge_variant(line(), line(), flat, POLICY, [5_000.0], Tolerance())  # type: ignore[arg-type]
    assert not gates[2].passed
    broken = judge_variant(line(), line(float("nan")), ladder(), POLICY, [5_000.0], Tolerance())  # type: ignore[arg-type]
    assert not broken[0].passed


def test_a_score_that_depends_on_the_rows_beside_it_fails() -> None:
    def ranked(rows: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.asarray(rows[:, 0] + 1e-3 * len(rows) / 100, np.float64)

    gates = judge_variant(line(), ranked, ladder(), POLICY, [5_000.0], Tolerance())  # type: ignore[arg-type]
    assert [gate.name for gate in gates if not gate.passed] == ["variant_alone"]
