"""Exported models answer as their native ones, and a model that reaches beyond itself is refused."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from flywheel.adapters.onnx_scorer import OnnxScorer
from flywheel.kernel.ports import CorruptModel
from services.trainer.appraisal import appraise, parity
from services.trainer.learners import Fitted, Sample, fit_baseline, fit_trees

FEATURES = 6


def sample(seed: int, size: int = 4_000) -> Sample:
    rng = np.random.default_rng(seed)
    rows = rng.lognormal(2, 1.5, (size, FEATURES)).astype(np.float32)
    rows[:, 1] = np.round(rows[:, 1])
    return Sample(rows, (rows[:, 0] > 20) & (rng.random(size) < 0.5))


@pytest.fixture(scope="module", params=[fit_baseline, fit_trees], ids=["logistic", "trees"])
def fitted(request: pytest.FixtureRequest) -> Fitted:
    model: Fitted = request.param(sample(1), sample(2))
    return model


def test_the_export_agrees_on_ordinary_borderline_and_incomplete_rows(fitted: Fitted) -> None:
    appraised = appraise(fitted, sample(3))
    assert appraised.parity <= 1e-6
    assert appraised.metrics["auc"] > 0.8


def test_a_score_does_not_depend_on_what_was_scored_with_it_or_before() -> None:
    scorer, rows = OnnxScorer(fit_trees(sample(1), sample(2)).export()), sample(3, 130).rows
    wanted = scorer.score(rows)
    assert len(np.unique(wanted)) > 10
    for number in (1, 2, 64, 65, 0, 1, 2):
        for first in range(0, len(rows) - number, 7):
            np.testing.assert_array_equal(scorer.score(rows[first : first + number]), wanted[first : first + number])


def test_the_first_rows_of_a_number_are_scored_once(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[str] = []

    class Counting(onnxruntime.InferenceSession):  # type: ignore[misc]
        def run(self, *args: Any, **kwargs: Any) -> Any:
            runs.append("plain")
            return super().run(*args, **kwargs)

        def run_with_iobinding(self, *args: Any, **kwargs: Any) -> None:
            runs.append("bound")
            super().run_with_iobinding(*args, **kwargs)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Counting)
    scorer, rows = OnnxScorer(fit_baseline(sample(1), sample(2)).export()), sample(3, 4).rows
    first, second = scorer.score(rows), scorer.score(rows)
    assert runs == ["plain", "bound"]
    np.testing.assert_array_equal(first, second)


def test_threads_score_beside_each_other() -> None:
    scorer, rows = OnnxScorer(fit_trees(sample(1), sample(2)).export()), sample(3, 100).rows
    wanted = scorer.score(rows)

    def scored(number: int) -> bool:
        return all(np.array_equal(scorer.score(rows[n : n + 2]), wanted[n : n + 2]) for n in range(number, 90))

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(scored, range(8)))


def test_parity_notices_an_altered_model(fitted: Fitted) -> None:
    altered = onnx.load_from_string(fitted.export())
    for constant in altered.graph.initializer:
        if constant.name == "link_intercept":
            moved = numpy_helper.to_array(constant) + np.float32(1e-3)
            constant.CopyFrom(numpy_helper.from_array(moved.astype(np.float32), constant.name))
    assert parity(fitted, OnnxScorer(altered.SerializeToString()), sample(3).rows) > 1e-5


def test_parity_notices_a_threshold_rounded_the_wrong_way() -> None:
    trees = fit_trees(sample(1), sample(2))
    altered = onnx.load_from_string(trees.export())
    for attribute in altered.graph.node[0].attribute:
        if attribute.name == "nodes_values":
            up = [float(np.nextafter(np.float32(value), np.float32(np.inf))) for value in attribute.floats]
            attribute.floats[:] = up
    assert parity(trees, OnnxScorer(altered.SerializeToString()), sample(3).rows) > 1e-5


def test_parity_of_a_model_without_answers_is_no_number() -> None:
    trees = fit_trees(sample(1), sample(2))

    class Silent:
        def score(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
            return np.full(len(rows), np.nan)

    assert np.isnan(parity(trees, Silent(), sample(3).rows))


def test_rows_of_another_width_are_refused(fitted: Fitted) -> None:
    scorer = OnnxScorer(fitted.export())
    assert scorer.feature_count == FEATURES
    with pytest.raises(ValueError, match="6 features"):
        scorer.score(np.zeros((2, FEATURES + 1), np.float32))


def model(
    *nodes: onnx.NodeProto, constants: tuple[onnx.TensorProto, ...] = (), outputs: tuple[onnx.ValueInfoProto, ...] = ()
) -> onnx.ModelProto:
    taken = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])
    given = outputs or (helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2]),)
    graph = helper.make_graph(list(nodes), "g", [taken], list(given), list(constants))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def plain() -> onnx.ModelProto:
    return model(helper.make_node("Sigmoid", ["x"], ["y"]))


def foreign_domain() -> onnx.ModelProto:
    foreign = model(helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft"))
    foreign.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return foreign


def external_data() -> onnx.ModelProto:
    constant = numpy_helper.from_array(np.ones((1, 2), np.float32), "c")
    constant.ClearField("raw_data")
    constant.data_location = TensorProto.EXTERNAL
    constant.external_data.add(key="location", value="../../elsewhere")
    return model(helper.make_node("Add", ["x", "c"], ["y"]), constants=(constant,))


def hidden_external_data() -> onnx.ModelProto:
    constant = external_data().graph.initializer[0]
    inner = helper.make_graph(
        [helper.make_node("Constant", [], ["v"], value=constant)],
        "inner",
        [],
        [helper.make_tensor_value_info("v", TensorProto.FLOAT, [1, 2])],
    )
    return model(helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner))


def own_functions() -> onnx.ModelProto:
    made = plain()
    made.functions.append(
        helper.make_function("ai.onnx", "F", ["a"], ["b"], [helper.make_node("Abs", ["a"], ["b"])], [])
    )
    return made


def wrong_input() -> onnx.ModelProto:
    made = plain()
    made.graph.input[0].type.tensor_type.elem_type = TensorProto.DOUBLE
    made.graph.output[0].type.tensor_type.elem_type = TensorProto.DOUBLE
    return made


def test_the_plain_model_is_taken_and_its_last_column_is_the_answer() -> None:
    scores = OnnxScorer(plain().SerializeToString()).score(np.array([[9, 0], [9, 2]], np.float32))
    np.testing.assert_allclose(scores, [0.5, 1 / (1 + np.exp(-2))], rtol=1e-6)
    assert scores.dtype == np.float64


@pytest.mark.parametrize("hostile", [foreign_domain, external_data, hidden_external_data, own_functions, wrong_input])
def test_a_model_that_reaches_beyond_itself_is_refused(hostile: Callable[[], onnx.ModelProto]) -> None:
    with pytest.raises(CorruptModel):
        OnnxScorer(hostile().SerializeToString())


@pytest.mark.parametrize("raw", [b"", b"no model", b"\x80\x04\x95pickled", bytes(1000)])
def test_other_bytes_are_refused(raw: bytes) -> None:
    with pytest.raises(CorruptModel):
        OnnxScorer(raw)


def test_a_model_cut_off_is_refused(fitted: Fitted) -> None:
    whole = fitted.export()
    with pytest.raises(CorruptModel):
        OnnxScorer(whole[: len(whole) // 2])
