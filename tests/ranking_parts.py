"""What tests of rankings over the wire are made of: a context, a tiny model and its deployment."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
from onnx import TensorProto, helper, numpy_helper

from flywheel.adapters.onnx_scorer import OnnxScorer
from flywheel.contracts.events import from_us, iso_utc
from flywheel.contracts.models import Deployment
from flywheel.kernel.model_integrity import digest_of
from flywheel.kernel.ports import ModelStore
from tests import serving_parts
from tests.ranking_declaration import USECASE, user

AT_US = serving_parts.AT_US


def context(**changes: Any) -> bytes:
    """What a client sends beside the candidates; a change to None leaves the field out."""
    fields = {"event_id": "visit-1", "event_time": iso_utc(from_us(AT_US)), "user_id": user(0), "page": 1}
    return orjson.dumps({name: value for name, value in (fields | changes).items() if value is not None})


def first_column_model() -> bytes:
    """An ONNX model: sigmoid of the item's first column."""
    weights = np.zeros((len(USECASE.feature_names), 1), np.float32)
    weights[USECASE.feature_names.index("item_i00")] = 1
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["features", "weights"], ["margin"]),
            helper.make_node("Sigmoid", ["margin"], ["probability"]),
        ],
        "first_column",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", len(weights)])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["n", 1])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return bytes(model.SerializeToString())


def deploy_first_column(store: ModelStore) -> None:
    """Publishes that model as `v1` and makes it the champion."""
    model = first_column_model()
    golden = np.random.default_rng(7).normal(size=(5, len(USECASE.feature_names))).astype(np.float32)
    manifest = serving_parts.manifest_of("v1", serving_parts.tiny_model()).model_copy(
        update={
            "usecase": USECASE.name,
            "feature_names": USECASE.feature_names,
            "feature_fingerprint": USECASE.fingerprint,
            "digest": digest_of(model),
            "golden_inputs": tuple(tuple(row) for row in golden.tolist()),
            "golden_scores": tuple(OnnxScorer(model).score(golden).tolist()),
        }
    )
    store.publish(manifest, model)
    store.deploy(
        Deployment(
            sequence=1,
            usecase=USECASE.name,
            deployed_at=from_us(AT_US),
            deployed_by="test",
            reason="test",
            champion="v1",
            challenger=None,
            challenger_share=0.0,
            salt="salt",
        )
    )
