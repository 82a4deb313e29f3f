"""What tests of decisions are made of: payments, stored states, tiny ONNX models and deployments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import onnx
import orjson
from onnx import TensorProto, helper, numpy_helper

from flywheel.adapters.onnx_scorer import OnnxScorer
from flywheel.contracts.events import iso_utc, to_us
from flywheel.contracts.models import Deployment, Histogram, ModelManifest
from flywheel.kernel import catalog
from flywheel.kernel.model_integrity import digest_of
from flywheel.kernel.plan import TileView, compile_plan
from flywheel.kernel.ports import ModelStore
from flywheel.kernel.rows import Cells, event_hash, rows_of
from flywheel.kernel.state import Change, EntityState, apply, mark_of
from usecases.fraud.events import Transaction

USECASE = catalog.load("fraud")
PLAN = compile_plan(USECASE)
VIEWS = {view.entity.name: view for view in PLAN.views}
AT = datetime(2018, 6, 1, 12, 0, 30, tzinfo=UTC)
AT_US = to_us(AT)


def payment(**changes: Any) -> bytes:
    """A payment as a client sends it; a change to None leaves the field out."""
    fields = {
        "event_id": "tx-own",
        "event_time": iso_utc(AT),
        "card_id": "c1",
        "terminal_id": "t1",
        "amount_cents": 5_000,
    }
    return orjson.dumps({name: value for name, value in (fields | changes).items() if value is not None})


@dataclass(frozen=True)
class Past:
    """A payment that was counted already."""

    event_id: str
    seconds_ago: int
    amount_cents: int

    @property
    def time_us(self) -> int:
        return AT_US - self.seconds_ago * 1_000_000

    @property
    def tie(self) -> int:
        return event_hash("transaction", self.event_id)


def rows(view: TileView, payments: Sequence[Past], card: str = "c1", terminal: str = "t1") -> Cells:
    """These payments as they come to one entity."""
    columns: dict[str, Any] = {
        "card_id": np.array([card] * len(payments), object),
        "terminal_id": np.array([terminal] * len(payments), object),
        "amount_cents": np.array([past.amount_cents for past in payments]),
    }
    times, ties = (np.array(cells, np.int64) for cells in ([p.time_us for p in payments], [p.tie for p in payments]))
    return rows_of(view, Transaction, columns, times, ties, np.arange(len(payments)))[1]


def packed(view: TileView, payments: Sequence[Past]) -> bytes:
    """The stored state of an entity after these payments."""
    change = Change(rows(view, payments), {0: mark_of(0, len(payments))})
    (state,), _ = apply(view, [EntityState.empty(view)], [change])
    return state.pack(view)


def tiny_model(*, bias: float = -5.0, per_payment: float = 1.0) -> bytes:
    """An ONNX model: sigmoid(bias + per_payment * payments of the card within an hour)."""
    names = USECASE.feature_names
    weights = np.zeros((len(names), 1), np.float32)
    weights[names.index("card_transaction_count_1h")] = per_payment
    nodes = [
        helper.make_node("MatMul", ["features", "weights"], ["products"]),
        helper.make_node("Add", ["products", "bias"], ["margin"]),
        helper.make_node("Sigmoid", ["margin"], ["probability"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", len(names)])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["n", 1])],
        [
            numpy_helper.from_array(weights, "weights"),
            numpy_helper.from_array(np.array([bias], np.float32), "bias"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def manifest_of(version: str, model: bytes, **changes: Any) -> ModelManifest:
    """The truthful manifest of a model, but for the changes."""
    rows = np.random.default_rng(7).uniform(0, 20, (5, len(USECASE.feature_names))).astype(np.float32)
    manifest = ModelManifest(
        usecase=USECASE.name,
        version=version,
        algorithm="tiny",
        created_at=AT,
        feature_names=USECASE.feature_names,
        feature_fingerprint=USECASE.fingerprint,
        digest=digest_of(model),
        snapshot_id="s1",
        code_commit="unknown",
        trained_until=AT,
        metrics={},
        gates=(),
        reference={},
        score_reference=Histogram(edges=(0.5,), counts=(1, 1)),
        golden_inputs=tuple(tuple(row) for row in rows.tolist()),
        golden_scores=tuple(OnnxScorer(model).score(rows).tolist()),
        mlflow_run_id="run",
    )
    return manifest.model_copy(update=changes)


def publish(store: ModelStore, version: str, *, bias: float = -5.0, **changes: Any) -> None:
    """Publishes a tiny model under that version."""
    model = tiny_model(bias=bias)
    store.publish(manifest_of(version, model, **changes), model)


def deploy(store: ModelStore, champion: str, challenger: str | None = None, share: float = 0.0, **others: Any) -> None:
    """Appends to the deployment log."""
    newest = store.current(USECASE.name)
    sequence = 1 if newest is None else newest.sequence + 1
    store.deploy(
        Deployment(
            sequence=sequence,
            usecase=USECASE.name,
            deployed_at=AT,
            deployed_by="test",
            reason="test",
            champion=champion,
            challenger=challenger,
            challenger_share=share,
            salt="salt",
            **others,
        )
    )
