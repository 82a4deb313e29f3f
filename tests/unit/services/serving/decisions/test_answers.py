"""Answers written field by field are the answers that protobuf would write."""

from __future__ import annotations

import math
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.contracts.decisions import Fallback, FeatureStatus, Step
from flywheel.contracts.proto.decision_pb2 import DecideResponse, FeatureValue
from flywheel.kernel.decision import Decided
from services.serving.decisions.answers import AnswerEncoder
from tests.decided import decided

NAMES = st.text(string.ascii_lowercase + "ä_", min_size=1, max_size=200)
NUMBERS = st.floats(allow_nan=False)
DOUBLES = st.dictionaries(NAMES, NUMBERS, max_size=40)


def as_protobuf_writes(decision: Decided) -> DecideResponse:
    return DecideResponse(
        decision_id=decision.decision_id,
        request_id=decision.request_id,
        action=decision.action,
        score=decision.score,
        reasons=decision.reasons,
        model_version=decision.model_version,
        arm=decision.arm,
        fallback=decision.fallback,
        features=[
            FeatureValue(name=name, value=value)
            for name, value in zip(decision.feature_names, decision.features, strict=True)
        ],
        feature_status=decision.feature_status,
        feature_lag_ms=decision.hydrated.lag_ms,
        feature_age_ms=decision.feature_age_ms,
        stage_ms=decision.stage_ms,
        step=decision.step,
        propensity=decision.propensity,
    )


@given(NAMES, DOUBLES, DOUBLES, st.lists(NAMES, max_size=4), st.sampled_from(FeatureStatus), NUMBERS)
def test_any_decision_reads_as_protobuf_would_have_written_it(
    text: str, features: dict[str, float], ages: dict[str, float], reasons: list[str], status: FeatureStatus, lag: float
) -> None:
    decision = decided(
        decision_id=text,
        feature_names=tuple(features),
        features=list(features.values()),
        feature_age_ms=ages,
        reasons=tuple(reasons),
        feature_status={text: status},
        feature_lag_ms=lag,
    )
    assert DecideResponse.FromString(AnswerEncoder().encode(decision)) == as_protobuf_writes(decision)


@pytest.mark.parametrize("step", Step)
def test_what_is_kept_of_one_answer_is_not_told_of_another(step: Step) -> None:
    encoder = AnswerEncoder()
    first, second = decided(), decided(action="decline", reasons=("other",), score=math.pi)
    second.case.step, second.case.why = step, Fallback.DEADLINE
    for decision in (first, second, first):
        assert DecideResponse.FromString(encoder.encode(decision)) == as_protobuf_writes(decision)


def test_features_can_be_left_out() -> None:
    encoder, decision = AnswerEncoder(), decided()
    whole = as_protobuf_writes(decision)
    whole.ClearField("features")
    assert DecideResponse.FromString(encoder.encode(decision, features=False)) == whole


def test_versions_that_come_and_go_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.serving.decisions.answers._KEPT", 3)
    encoder = AnswerEncoder()
    for number in range(10):
        decision = decided(model_version=f"v{number}")
        assert DecideResponse.FromString(encoder.encode(decision)) == as_protobuf_writes(decision)
    assert len(encoder._alike) <= 3
