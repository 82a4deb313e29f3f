"""A model answers for the rows it was given, under its name and version, or says what is in the way."""

from __future__ import annotations

import asyncio
import itertools
import math
import threading
import time
from collections.abc import Iterator, Mapping
from types import MappingProxyType

import numpy as np
import pytest
from numpy.typing import NDArray
from prometheus_client import REGISTRY

from flywheel.adapters.guarded_scorer import GuardedScorer
from flywheel.adapters.onnx_scorer import OnnxScorer
from flywheel.kernel.chain import Chain
from flywheel.kernel.lineup import Lineup, LoadedModel
from flywheel.kernel.ports import Scorer
from flywheel.kernel.timing import OutOfTime
from services.serving.inference.messages import (
    IndexEntry,
    InferenceRequest,
    ModelFailed,
    ModelNotReady,
    Parameter,
    TensorDescription,
    UnknownModel,
)
from services.serving.inference.plane import Inference
from services.serving.inference.repository import Repository
from services.serving.inference.tensors import InvalidInference, Tensor
from tests.serving_parts import USECASE, manifest_of, tiny_model

FEATURES = len(USECASE.feature_names)
V1 = LoadedModel("v1", OnnxScorer(tiny_model()))
V2 = LoadedModel("v2", OnnxScorer(tiny_model(bias=-1.0)))
BOTH = Lineup(champion=V1, challenger=V2, challenger_share=0.1, salt="s")


@pytest.fixture
def inference() -> Iterator[Inference]:
    yield from of(BOTH)


def of(lineup: Lineup, max_rows: int = 1_000) -> Iterator[Inference]:
    repository = Repository(USECASE, lambda: lineup, lambda: ["v0", "v1", "v2"])
    made = Inference(USECASE, repository, max_rows=max_rows)
    yield made
    made.close()


def asked(
    values: NDArray[np.float32],
    model: str = "fraud",
    version: str = "",
    parameters: Mapping[str, Parameter] = MappingProxyType({}),
) -> InferenceRequest:
    return InferenceRequest(model, [Tensor("features", values)], version, "id-1", parameters=parameters)


def some(count: int) -> NDArray[np.float32]:
    return np.random.default_rng(count).uniform(0, 20, (count, FEATURES)).astype(np.float32)


@pytest.mark.parametrize("count", [1, 32, 33, 1_000])
async def test_each_row_gets_the_score_that_its_model_gives(inference: Inference, count: int) -> None:
    rows = some(count)
    for version, model in (("", V1), ("v1", V1), ("v2", V2)):
        answer = await inference.infer(asked(rows, version=version))
        assert (answer.model, answer.version, answer.id) == ("fraud", model.version, "id-1")
        (scores,) = answer.outputs
        assert (scores.name, scores.datatype) == ("score", "FP64")
        np.testing.assert_array_equal(scores.values, model.scorer.score(rows))


async def test_golden_rows_give_golden_scores(inference: Inference) -> None:
    manifest = manifest_of("v1", tiny_model())
    answer = await inference.infer(asked(np.array(manifest.golden_inputs, np.float32)))
    np.testing.assert_allclose(answer.outputs[0].values, manifest.golden_scores, atol=1e-6)


async def test_requests_at_once_get_their_own_scores(inference: Inference) -> None:
    batches = [some(count) for count in (1, 40, 2, 900, 33, 5)]
    answers = await asyncio.gather(*(inference.infer(asked(batch)) for batch in batches))
    for batch, answer in zip(batches, answers, strict=True):
        np.testing.assert_array_equal(answer.outputs[0].values, V1.scorer.score(batch))


async def test_a_name_or_version_that_is_not_there_is_told_with_those_that_are(inference: Inference) -> None:
    with pytest.raises(UnknownModel, match="'other'; there is fraud"):
        await inference.infer(asked(some(1), model="other"))
    with pytest.raises(UnknownModel, match="'v0' of fraud is not loaded; there is v1, v2"):
        await inference.infer(asked(some(1), version="v0"))
    with pytest.raises(UnknownModel):
        inference.model_ready("other")
    assert [inference.model_ready("fraud", version) for version in ("", "v1", "v2", "v0")] == [True, True, True, False]


class Halved:
    """A calibrator that believes in half of everything."""

    feature_count = 1

    def score(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        return rows[:, 0].astype(np.float64) / 2


async def test_the_components_of_a_version_answer_by_their_names() -> None:
    parts: dict[str, Scorer] = {"model": OnnxScorer(tiny_model()), "calibrator": Halved()}
    bundle = LoadedModel("v3", Chain(parts["model"], [parts["calibrator"]]), parts)
    rows = some(3)
    raw = parts["model"].score(rows)
    for inference in of(Lineup(champion=bundle, challenger=V1, challenger_share=0.1)):
        names = ["fraud", "fraud.model", "fraud.calibrator"]
        assert [entry.name for entry in await inference.index(ready_only=True)] == [*names, "fraud"]
        whole, model = [(await inference.infer(asked(rows, model=name))).outputs[0].values for name in names[:2]]
        np.testing.assert_array_equal(model, raw)
        given = raw.astype(np.float32).reshape(-1, 1)
        calibrated = await inference.infer(asked(given, model=names[2]))
        np.testing.assert_array_equal(calibrated.outputs[0].values, whole)
        assert not np.array_equal(whole, raw)
        assert inference.describe("fraud.calibrator").inputs == (TensorDescription("features", "FP32", (-1, 1)),)
        assert len(inference.describe("fraud.model").inputs) == FEATURES
        assert [inference.describe(name).versions for name in names] == [("v3", "v1"), ("v3",), ("v3",)]
        with pytest.raises(InvalidInference, match=r"send \[rows, 1\]"):
            await inference.infer(asked(rows, model="fraud.calibrator"))
        with pytest.raises(UnknownModel, match=r"there is fraud, fraud\.model, fraud\.calibrator"):
            await inference.infer(asked(rows, model="fraud.other"))
        with pytest.raises(UnknownModel, match=r"v1 has no .fraud\.calibrator."):
            inference.model_ready("fraud.calibrator", "v1")


async def test_without_any_model_it_is_not_ready_yet() -> None:
    for inference in of(Lineup()):
        assert not inference.ready()
        assert not inference.model_ready("fraud")
        with pytest.raises(ModelNotReady):
            inference.describe("fraud")
        with pytest.raises(ModelNotReady):
            await inference.infer(asked(some(1)))


async def test_the_inputs_that_a_description_names_are_taken(inference: Inference) -> None:
    described = inference.describe("fraud")
    assert described.versions == ("v1", "v2")
    rows = some(3)
    inputs = [Tensor(each.name, rows[:, place]) for place, each in enumerate(described.inputs)]
    answer = await inference.infer(InferenceRequest("fraud", inputs, outputs=[described.outputs[0].name]))
    np.testing.assert_array_equal(answer.outputs[0].values, V1.scorer.score(rows))


async def test_the_index_tells_what_is_published_and_what_is_loaded(inference: Inference) -> None:
    loaded = [IndexEntry("fraud", "v1", True, "champion"), IndexEntry("fraud", "v2", True, "challenger")]
    assert await inference.index(ready_only=True) == loaded
    assert await inference.index() == [*loaded, IndexEntry("fraud", "v0", False, "not loaded")]


async def test_only_features_of_the_right_declaration_are_scored(inference: Inference) -> None:
    answer = await inference.infer(asked(some(1), parameters={"feature_fingerprint": USECASE.fingerprint}))
    assert answer.parameters["feature_fingerprint"] == USECASE.fingerprint
    with pytest.raises(InvalidInference, match=f"feature_fingerprint: the models read features {USECASE.fingerprint}"):
        await inference.infer(asked(some(1), parameters={"feature_fingerprint": "0" * 16}))


@pytest.mark.parametrize(
    ("parameters", "said"),
    [({"priority": 1}, "'priority' is not served"), ({"timeout": 0}, "no time"), ({"timeout": True}, "no time")],
)
async def test_parameters_that_are_not_understood_are_refused(
    inference: Inference, parameters: dict[str, Parameter], said: str
) -> None:
    with pytest.raises(InvalidInference, match=said):
        await inference.infer(asked(some(1), parameters=parameters))


@pytest.mark.parametrize(("outputs", "said"), [(["label"], "no 'label'"), (["score", "score"], "twice")])
async def test_outputs_that_are_not_there_are_refused(inference: Inference, outputs: list[str], said: str) -> None:
    with pytest.raises(InvalidInference, match=said):
        await inference.infer(InferenceRequest("fraud", [Tensor("features", some(1))], outputs=outputs))


async def test_rows_beyond_the_limit_are_refused() -> None:
    for inference in of(BOTH, max_rows=2):
        await inference.infer(asked(some(2)))
        with pytest.raises(InvalidInference, match="3 rows where 2"):
            await inference.infer(asked(some(3)))


class Held:
    """A model that scores when it is let go."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.may_end = threading.Event()

    def score(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        self.begun.set()
        self.may_end.wait(10)
        return np.zeros(len(rows))


async def test_a_long_run_leaves_the_loop_alone_and_ends_with_its_time() -> None:
    held = Held()
    for inference in of(Lineup(champion=LoadedModel("v1", held))):
        slow = asyncio.create_task(inference.infer(asked(some(100)), time.perf_counter() + 0.2))
        assert await asyncio.to_thread(held.begun.wait, 5)
        with pytest.raises(OutOfTime):
            await slow
        with pytest.raises(OutOfTime):
            await inference.infer(asked(some(100), parameters={"timeout": 1_000}))
        with pytest.raises(OutOfTime):
            await inference.infer(asked(some(1)), -math.inf)
        held.may_end.set()


class Broken:
    """A model that does not score."""

    def score(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        raise RuntimeError(f"no {len(rows)}")


class Short:
    """A model that leaves a row out."""

    def score(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.zeros(len(rows) - 1)


async def test_rows_that_a_model_fails_on_do_not_take_it_away_from_decisions() -> None:
    guarded = GuardedScorer(Broken(), patience_s=1.0, steady_s=itertools.count().__next__)
    for inference in of(Lineup(champion=LoadedModel("v1", guarded))):
        for _ in range(10):
            with pytest.raises(ModelFailed, match="RuntimeError"):
                await inference.infer(asked(some(1)))
    assert not guarded.is_open


@pytest.mark.parametrize("scorer", [Broken(), Short()])
async def test_a_model_that_fails_is_told_apart_from_a_wrong_request(scorer: Broken | Short) -> None:
    labels = {"usecase": "fraud", "face": "grpc", "outcome": "model_failed"}
    before = REGISTRY.get_sample_value("flywheel_serving_inferences_total", labels) or 0.0
    for inference in of(Lineup(champion=LoadedModel("v1", scorer))):
        for count in (2, 100):
            with pytest.raises(ModelFailed, match=r"^v1 "), inference.counted("grpc"):
                await inference.infer(asked(some(count)))
    assert REGISTRY.get_sample_value("flywheel_serving_inferences_total", labels) == before + 2


async def test_large_requests_are_read_beside_the_event_loop(inference: Inference) -> None:
    here = threading.get_ident()
    assert await inference.read(1_000, threading.get_ident) == here
    assert await inference.read(1_000_000, threading.get_ident) != here


async def test_a_request_may_bring_as_many_numbers_as_the_model_takes_rows(inference: Inference) -> None:
    assert inference.max_elements("fraud") == 1_000 * FEATURES
    with pytest.raises(UnknownModel):
        inference.max_elements("other")
