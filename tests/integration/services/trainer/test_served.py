"""Rows as they were served: which decisions are trusted, and what training makes of them."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flywheel.contracts.decisions import Fallback, FeatureStatus
from services.trainer.preparation import Prepared, prepare
from services.trainer.served import compared, served_rows
from services.trainer.training_set import TrainingSet
from tests.decision_rows import ASKED_AT, archive_decisions, asked, decided
from tests.integration.services.trainer.conftest import ARRIVED, SmallWorld
from usecases.fraud import usecase

AT = ASKED_AT
WIDTH = len(usecase.feature_names)
ROW = [float(number) for number in range(WIDTH)]


def anyone(_: str) -> bool:
    return True


def test_rows_are_found_in_their_places(tmp_path: Path) -> None:
    archive_decisions(tmp_path, [decided("b", AT, ROW), decided("x", AT, ROW)])
    archive_decisions(tmp_path, [decided("c", AT, [float("nan")] * WIDTH)], batch_id=1)
    served = served_rows(tmp_path, usecase, asked("a", "b", "c"), anyone)
    assert served.places.tolist() == [1, 2]
    assert served.decision_ids == ("d-b", "d-c")
    np.testing.assert_array_equal(served.rows, np.array([ROW, [np.nan] * WIDTH], np.float32))


def test_without_decisions_nothing_was_served(tmp_path: Path) -> None:
    served = served_rows(tmp_path, usecase, asked("a"), anyone)
    assert (len(served.places), served.rows.shape) == (0, (0, WIDTH))


@pytest.mark.parametrize(
    "changes",
    [
        {"fallback": Fallback.MODEL_UNAVAILABLE},
        {"feature_status": {"card": FeatureStatus.FRESH, "terminal": FeatureStatus.STALE}},
        {"feature_status": {"card": FeatureStatus.UNAVAILABLE, "terminal": FeatureStatus.FRESH}},
        {"feature_lag_ms": 10_001.0},
        {"feature_lag_ms": -1.0},
        {"feature_names": tuple(reversed(usecase.feature_names))},
        {"features": ()},
        {"model_version": "reads others"},
        {"decided_at": AT + timedelta(seconds=10, microseconds=1)},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_only_complete_fresh_features_of_the_same_declaration_are_trusted(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    archive_decisions(tmp_path, [decided("a", AT, ROW), decided("b", AT, ROW).model_copy(update=changes)])
    served = served_rows(tmp_path, usecase, asked("a", "b"), lambda version: version == "v1")
    assert served.places.tolist() == [0]


def test_the_first_decision_about_an_event_is_the_one(tmp_path: Path) -> None:
    later = decided("a", AT, [9.0] * WIDTH, decided_at=AT + timedelta(seconds=1))
    again = decided("a", AT, ROW)
    archive_decisions(tmp_path, [later, again, again])
    served = served_rows(tmp_path, usecase, asked("a"), anyone)
    np.testing.assert_array_equal(served.rows, np.array([ROW], np.float32))


def test_the_report_names_the_feature_and_the_decision_that_differ_most(tmp_path: Path) -> None:
    trained = np.array([ROW, ROW, ROW], np.float32)
    examples = TrainingSet(trained, np.zeros(3, np.bool_), np.zeros(3, np.int64), asked("a", "b", "c"))
    other = [*ROW[:-1], ROW[-1] + 4]
    archive_decisions(tmp_path, [decided("b", AT, ROW), decided("c", AT, other)])
    parity = compared(usecase, examples, served_rows(tmp_path, usecase, examples.requests, anyone))
    assert (parity.of, parity.served, parity.worst_decision) == (3, 2, "d-c")
    told = json.loads(parity.to_json())
    assert told["features"][0] == {
        "feature": usecase.feature_names[-1],
        "rows": 2,
        "equal_share": 0.5,
        "worst": 4.0,
        "worst_row": 1,
    }
    assert {feature["equal_share"] for feature in told["features"][1:]} == {1.0}


@pytest.mark.parametrize("prefers_served", [True, False])
def test_training_prefers_what_was_served_if_it_is_told_to(
    small_world: SmallWorld, tmp_path: Path, prefers_served: bool
) -> None:
    lake = tmp_path / "lake"
    (lake / "fraud").mkdir(parents=True)
    for name in ("transaction", "chargeback"):
        (lake / "fraud" / name).symlink_to(small_world.lake / "fraud" / name)

    def prepared() -> Prepared:
        message = small_world.message()
        return prepare(lake, usecase, message, small_world.retrieve, reads_same=anyone, prefers_served=prefers_served)

    before = prepared()
    assert not before.metrics
    ids = before.examples.requests["event_id"].to_pylist()
    changed = before.examples.rows[7] + 1
    honest = decided(ids[3], ARRIVED, before.examples.rows[3].tolist())
    archive_decisions(lake, [honest, decided(ids[7], ARRIVED, changed.tolist())])
    after = prepared()
    wanted = before.examples.rows.copy()
    if prefers_served:
        wanted[7] = changed
    np.testing.assert_array_equal(after.examples.rows, wanted)
    assert after.metrics == {
        "served_share": 2 / len(ids),
        "served_equal_share_least": 0.5,
        "served_worst_difference": pytest.approx(1.0, rel=1e-3),
    }
    assert after.parameters["served_rows"] == 2
