"""Features as they were served: read from the archived decisions, compared with those computed afterwards."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from flywheel.adapters.duckdb_sql import literal
from flywheel.contracts.decisions import Fallback, FeatureStatus
from flywheel.kernel.declaration import UseCase
from flywheel.kernel.durations import parse_duration
from flywheel.kernel.parity import FeatureParity, compare, least_equal
from services.trainer.training_set import TrainingSet

_TRUSTED = (FeatureStatus.FRESH, FeatureStatus.MISSING)
"""An entity that the store has nothing of was never seen, as long as the store itself is not behind."""


@dataclass(frozen=True)
class Served:
    """Training rows that were decided with complete fresh features: their places, the decisions, their features."""

    places: NDArray[np.intp]
    decision_ids: tuple[str, ...]
    rows: NDArray[np.float32]


@dataclass(frozen=True)
class ServedParity:
    """How the served rows compare with the recomputed ones."""

    of: int
    """Rows of the training set."""
    served: int
    features: tuple[FeatureParity, ...]
    worst_decision: str

    @property
    def least_equal(self) -> FeatureParity | None:
        return least_equal(self.features)

    def to_json(self) -> str:
        """The whole report, feature by feature, those that differ most first."""
        ranked = sorted(self.features, key=lambda parity: (parity.equal_share, -parity.worst))
        shown = [{k: v if not _is_endless(v) else None for k, v in asdict(parity).items()} for parity in ranked]
        whole = {"training_rows": self.of, "served_rows": self.served, "worst_decision": self.worst_decision}
        return json.dumps(whole | {"features": shown}, indent=2)


def served_rows(lake: Path, usecase: UseCase, requests: pa.Table, reads_same: Callable[[str], bool]) -> Served:
    """The rows of `requests` (event_id, ingest_time) that were served complete and fresh, by their first decision.

    Passed over are decisions made later than `freshness` after the request arrived, and those of models that read
    other features: `reads_same` tells of a version whether it was declared to read the very ones of the use case.
    """
    directory = lake / usecase.name / "decisions"
    if next(directory.glob("*/*/*.parquet"), None) is None:
        return _none(usecase)
    with duckdb.connect() as database:
        database.execute("SET TimeZone = 'UTC'")
        files = f"read_parquet({literal(directory / '*/*/*.parquet')}, union_by_name = true)"
        numbers = pa.array(np.arange(len(requests)))
        database.register("asked", requests.select(["event_id", "ingest_time"]).append_column("number", numbers))
        versions = [row[0] for row in database.execute(f"SELECT DISTINCT model_version FROM {files}").fetchall()]
        alike = [version for version in versions if reads_same(version)]
        if not alike:
            return _none(usecase)
        return _served(usecase, database.sql(_query(files), params=_parameters(usecase, alike)).to_arrow_table())


def compared(usecase: UseCase, examples: TrainingSet, served: Served) -> ServedParity:
    """The parity of the served rows with the training set's own."""
    features = compare(usecase.feature_names, served.rows, examples.rows[served.places])
    worst = least_equal(features)
    decision = served.decision_ids[worst.worst_row] if worst and worst.worst else ""
    return ServedParity(len(examples.labels), len(served.places), features, decision)


def _query(files: str) -> str:
    return f"""
        SELECT number, decision_id, features FROM (
            SELECT asked.number, decision_id, features, row_number() OVER (
                PARTITION BY asked.number ORDER BY decided_at, kafka_partition, kafka_offset
            ) AS decided
            FROM asked JOIN {files} decisions USING (event_id)
            WHERE fallback = $fallback AND feature_names = $names AND len(features) = len(feature_names)
                AND model_version IN (SELECT unnest($versions))
                AND feature_lag_ms BETWEEN 0 AND $freshness_ms
                AND epoch_us(decided_at) <= epoch_us(ingest_time) + $freshness_ms * 1000
                AND list_has_all($trusted, map_values(feature_status))
        ) WHERE decided = 1 ORDER BY number
    """


def _parameters(usecase: UseCase, versions: list[str]) -> dict[str, object]:
    return {
        "fallback": Fallback.NONE.value,
        "names": list(usecase.feature_names),
        "versions": versions,
        "freshness_ms": parse_duration(usecase.freshness) // 1000,
        "trusted": [status.value for status in _TRUSTED],
    }


def _served(usecase: UseCase, found: pa.Table) -> Served:
    if not len(found):
        return _none(usecase)
    values = found["features"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    rows = values.reshape(len(found), len(usecase.feature_names)).astype(np.float32)
    return Served(found["number"].to_numpy().astype(np.intp), tuple(found["decision_id"].to_pylist()), rows)


def _none(usecase: UseCase) -> Served:
    return Served(np.empty(0, np.intp), (), np.empty((0, len(usecase.feature_names)), np.float32))


def _is_endless(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
