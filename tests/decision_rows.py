"""Decisions as serving logs them, and as the features service archives them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from flywheel.contracts.decisions import DecisionLogged, Fallback, FeatureStatus
from usecases.fraud import usecase

ASKED_AT = datetime(2018, 4, 1, tzinfo=UTC)

_MOMENT = pa.timestamp("us", "UTC")
_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("decision_id", "request_id", "usecase", "event_id")),
        *((name, _MOMENT) for name in ("event_time", "decided_at")),
        *((name, pa.string()) for name in ("unit", "arm", "model_version")),
        ("score", pa.float64()),
        ("action", pa.string()),
        ("reasons", pa.list_(pa.string())),
        ("fallback", pa.string()),
        ("feature_names", pa.list_(pa.string())),
        ("features", pa.list_(pa.float64())),
        ("feature_status", pa.map_(pa.string(), pa.string())),
        ("feature_lag_ms", pa.float64()),
        ("stage_ms", pa.map_(pa.string(), pa.float64())),
        ("value", pa.float64()),
        ("kafka_partition", pa.int32()),
        ("kafka_offset", pa.int64()),
    ]
)


def decided(event_id: str, at: datetime, features: Sequence[float], **changes: Any) -> DecisionLogged:
    """A decision by the model on complete, fresh features, but for the changes."""
    decision = DecisionLogged(
        decision_id=f"d-{event_id}",
        request_id="r",
        usecase="fraud",
        event_id=event_id,
        event_time=at,
        decided_at=at,
        unit="card-1",
        arm="champion",
        model_version="v1",
        score=0.1,
        action="approve",
        reasons=("amount_high",),
        fallback=Fallback.NONE,
        feature_names=usecase.feature_names,
        features=tuple(features),
        feature_status={"card": FeatureStatus.FRESH, "terminal": FeatureStatus.MISSING},
        feature_lag_ms=5.0,
        stage_ms={"total": 1.5},
        value=100.0,
    )
    return decision.model_copy(update=changes)


def archive_decisions(lake: Path, decisions: Sequence[DecisionLogged], *, batch_id: int = 0) -> None:
    """Writes them to the lake in the layout of the features service."""
    rows: list[dict[str, Any]] = []
    for offset, decision in enumerate(decisions):
        row = decision.model_dump(mode="python") | {"kafka_partition": 0, "kafka_offset": offset}
        rows.append(row | {name: list(row[name].items()) for name in ("feature_status", "stage_ms")})
    directory = lake / "fraud" / "decisions" / "decision_date=2018-04-01" / f"batch_id={batch_id}"
    directory.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, _SCHEMA), directory / "part-0.parquet")


def asked(*ids: str, at: datetime = ASKED_AT) -> pa.Table:
    """Requests of these ids, all of which arrived at the same time."""
    return pa.table({"event_id": list(ids), "ingest_time": pa.array([at] * len(ids), _MOMENT)})
