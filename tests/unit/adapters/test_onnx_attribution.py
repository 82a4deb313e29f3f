"""Published models are explained as LightGBM itself explains them, or not at all."""

from __future__ import annotations

from typing import Any

import lightgbm
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper

from flywheel.adapters import onnx_scorer
from flywheel.adapters.onnx_attribution import attributor_of
from flywheel.adapters.onnx_export import LogisticWeights, export_boosted, export_logistic
from flywheel.adapters.onnx_scorer import OnnxScorer
from flywheel.kernel.attribution import Attributor, NotExplainable
from tests.serving_parts import tiny_model

SLOPE, INTERCEPT = 1.3, -0.4


def rows(draw: np.random.Generator, count: int, features: int) -> NDArray[np.float32]:
    values = draw.normal(size=(count, features)).astype(np.float32)
    values[draw.random(values.shape) < 0.1] = np.nan
    return values


def trained(seed: int, *, trees: int = 20, leaves: int = 15, features: int = 8, **settings: Any) -> lightgbm.Booster:
    draw = np.random.default_rng(seed)
    values = rows(draw, 2_000, features)
    truth = (np.nan_to_num(values[:, 0]) * np.nan_to_num(values[:, 1], nan=0.5) + draw.normal(size=2_000) > 0.3) * 1
    parameters = {"objective": "binary", "num_leaves": leaves, "verbosity": -1, "num_threads": 1, "seed": seed}
    return lightgbm.train(parameters | settings, lightgbm.Dataset(values, truth), trees)


@pytest.mark.parametrize(
    ("seed", "settings"),
    [
        (0, {}),
        (1, {"leaves": 63, "min_data_in_leaf": 3}),
        (2, {"leaves": 2, "trees": 5}),
        (3, {"bagging_fraction": 0.5, "bagging_freq": 1, "feature_fraction": 0.6}),
        (4, {"use_missing": False}),
        (5, {"features": 2, "leaves": 31, "min_data_in_leaf": 1}),
    ],
)
def test_trees_are_explained_as_lightgbm_explains_them(seed: int, settings: dict[str, Any]) -> None:
    booster = trained(seed, **settings)
    features = booster.num_feature()
    model = export_boosted(booster.dump_model(), SLOPE, INTERCEPT)
    attributor = attributor_of(model, features)
    asked = rows(np.random.default_rng(seed + 100), 50, features)
    theirs = booster.predict(asked, pred_contrib=True)
    assert isinstance(theirs, np.ndarray)
    scores = OnnxScorer(model).score(asked)
    for row, contributions, score in zip(asked, theirs, scores, strict=True):
        ours = attributor.attribute(row)
        assert ours.contributions == pytest.approx(SLOPE * contributions[:-1], abs=1e-5)
        assert ours.base == pytest.approx(SLOPE * contributions[-1] + INTERCEPT, abs=1e-5)
        assert ours.score == pytest.approx(score, abs=1e-5)


def test_a_split_of_missing_values_alone_is_explained() -> None:
    values = np.zeros((400, 1), np.float32)
    values[:200] = np.nan
    truth = np.r_[np.ones(200), np.zeros(200)]
    booster = lightgbm.train({"verbosity": -1, "objective": "binary"}, lightgbm.Dataset(values, truth), 3)
    model = export_boosted(booster.dump_model(), 1.0, 0.0)
    attributor = attributor_of(model, 1)
    for row, score in zip(values[[0, 399]], OnnxScorer(model).score(values[[0, 399]]), strict=True):
        assert attributor.attribute(row).score == pytest.approx(score, abs=1e-6)


def test_what_explanations_share_is_worked_out_once_and_the_file_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    worked: list[int] = []

    def counted(model: bytes, features: int) -> Attributor:
        worked.append(features)
        return attributor_of(model, features)

    monkeypatch.setattr(onnx_scorer, "attributor_of", counted)
    scorer = OnnxScorer(export_boosted(trained(1).dump_model(), SLOPE, INTERCEPT))
    row = rows(np.random.default_rng(1), 1, 8)[0]
    first, second = scorer.explain(row), scorer.explain(row)
    assert worked == [8]
    assert first.base == second.base
    assert (first.contributions == second.contributions).all()
    assert scorer._model == b""


def test_covers_change_no_answer() -> None:
    booster = trained(7)
    model = onnx.load_from_string(export_boosted(booster.dump_model(), SLOPE, INTERCEPT))
    asked = rows(np.random.default_rng(8), 500, 8)
    with_covers = OnnxScorer(model.SerializeToString()).score(asked)
    (covers,) = [each for each in model.graph.node[0].attribute if each.name == "nodes_hitrates"]
    model.graph.node[0].attribute.remove(covers)
    without = OnnxScorer(model.SerializeToString())
    assert np.array_equal(with_covers, without.score(asked))
    with pytest.raises(NotExplainable, match="training rows"):
        attributor_of(model.SerializeToString(), 8)


def test_a_regression_is_explained_from_its_weights() -> None:
    draw = np.random.default_rng(9)
    weights = LogisticWeights(
        mean=draw.normal(size=5), scale=draw.uniform(1, 2, 5), coefficients=draw.normal(size=5), intercept=-1.5
    )
    model = export_logistic(weights)
    attributor = attributor_of(model, 5)
    asked = rows(draw, 40, 5) * 100
    for row, score in zip(asked, OnnxScorer(model).score(asked), strict=True):
        ours = attributor.attribute(row)
        assert ours.base == pytest.approx(-1.5, abs=1e-5)
        assert ours.score == pytest.approx(score, abs=1e-5)


def changed(change: Any) -> bytes:
    model = onnx.load_from_string(export_boosted(trained(7, trees=2).dump_model(), SLOPE, INTERCEPT))
    change(model)
    return bytes(model.SerializeToString())


def _set(name: str, value: Any) -> Any:
    def change(model: onnx.ModelProto) -> None:
        attributes = model.graph.node[0].attribute
        kept = [each for each in attributes if each.name != name]
        del attributes[:]
        attributes.extend([*kept, helper.make_attribute(name, value)])

    return change


def _insert(operator: str, at: int) -> Any:
    def change(model: onnx.ModelProto) -> None:
        node = model.graph.node[at]
        extra = helper.make_node(operator, [node.input[0]], ["extra"])
        node.input[0] = "extra"
        model.graph.node.insert(at, extra)

    return change


@pytest.mark.parametrize(
    "model",
    [
        b"no model",
        b"",
        tiny_model(),
        changed(_set("post_transform", "LOGISTIC")),
        changed(_set("aggregate_function", "MIN")),
        changed(_set("n_targets", 2)),
        changed(_insert("Abs", 0)),
        changed(_insert("Abs", 1)),
        changed(_insert("Sigmoid", 1)),
    ],
    ids=["bytes", "nothing", "linear of its own", "transform", "minimum", "targets", "before", "after", "twice"],
)
def test_whatever_else_is_not_explained(model: bytes) -> None:
    with pytest.raises(NotExplainable):
        attributor_of(model, 8)
