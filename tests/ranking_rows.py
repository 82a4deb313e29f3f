"""A logged ranking, for tests of those who read the log."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from flywheel.contracts.decisions import Fallback, FeatureStatus, Step
from flywheel.contracts.rankings import RankingLogged


def ranking(event_time: datetime, decided_at: datetime, **changes: Any) -> RankingLogged:
    """Two of nine candidates were shown, of whose two features one is no number."""
    logged = RankingLogged(
        decision_id="d1",
        request_id="r1",
        usecase="shop",
        event_id="visit-1",
        event_time=event_time,
        decided_at=decided_at,
        unit="user-1",
        arm="champion",
        propensity=0.5,
        model_version="v1",
        fallback=Fallback.NONE,
        step=Step.MODEL,
        offered=9,
        dropped={"few": 7},
        shown=("a", "b"),
        scores=(0.75, 0.25),
        propensities=(1.0, 0.5),
        feature_names=("f", "g"),
        features=((1.5, float("nan")), (2.5, float("-inf"))),
        sources=("user_profile", "item_profile"),
        statuses=((FeatureStatus.FRESH, FeatureStatus.MISSING), (FeatureStatus.STALE, FeatureStatus.FRESH)),
        tables=("user_profile", "item_profile"),
        ages_ms=((1.0, None), (1.0, 2.0)),
        feature_lag_ms=-1.0,
        stage_ms={"total": 3.0},
        writer="w1",
        sequence=7,
    )
    return logged.model_copy(update=changes)
