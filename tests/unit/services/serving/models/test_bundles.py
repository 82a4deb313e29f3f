"""A version of several files runs them as a chain, and each of them alone."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from flywheel.adapters.memory_model_store import MemoryModelStore
from flywheel.contracts.models import Component
from flywheel.kernel.model_integrity import digest_of
from tests.line_up_scene import following, versions
from tests.serving_parts import USECASE, deploy, manifest_of, publish, tiny_model


def test_a_bundle_runs_its_chain_and_has_its_parts_by_name(store: MemoryModelStore) -> None:
    ranker, halved, other = tiny_model(), correction(0.5), correction(0.1)
    parts = {"calibrator": halved, "retrieval": other}
    attached = tuple(
        Component(name=name, digest=digest_of(content), chained=name == "calibrator") for name, content in parts.items()
    )
    whole = manifest_of("v1", ranker)
    golden = tuple(0.5 * score for score in whole.golden_scores)
    store.publish(whole.model_copy(update={"attached": attached, "golden_scores": golden}), ranker, parts)
    deploy(store, "v1")
    models = following(store)
    models.refresh()
    champion = models.lineup().champion
    assert champion is not None
    assert set(champion.components) == {"model", "calibrator", "retrieval"}
    rows = np.full((3, len(USECASE.feature_names)), 5.0, np.float32)
    plain = champion.components["model"].score(rows)
    assert champion.scorer.score(rows).tolist() == pytest.approx((0.5 * plain).tolist(), rel=1e-6)


def test_a_part_of_a_bundle_that_was_damaged_is_refused(store: MemoryModelStore) -> None:
    ranker, part = tiny_model(), correction(0.5)
    attached = (Component(name="calibrator", digest=digest_of(part), chained=True),)
    store.publish(manifest_of("v2", ranker, attached=attached), ranker, {"calibrator": part})
    store.attached["fraud", "v2"]["calibrator"] = part[:-1]
    publish(store, "v1")
    deploy(store, "v1")
    deploy(store, "v2")
    models = following(store)
    models.refresh()
    assert versions(models) == ["v1"]


def correction(factor: float) -> bytes:
    """A model of one column: that many times what it is given."""
    graph = helper.make_graph(
        [helper.make_node("Mul", ["score", "factor"], ["corrected"])],
        "correction",
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n", 1])],
        [helper.make_tensor_value_info("corrected", TensorProto.FLOAT, ["n", 1])],
        [numpy_helper.from_array(np.array([factor], np.float32), "factor")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return bytes(made.SerializeToString())
