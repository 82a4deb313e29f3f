"""The rows a model learns from: matured request events with the features they had at their own time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from flywheel.adapters.logs import logger
from flywheel.contracts.training import HistoryBuilt
from flywheel.kernel.declaration import UseCase
from flywheel.kernel.features import Column
from flywheel.kernel.fields import REQUEST, REQUEST_TIME, numeric_fields
from flywheel.kernel.plan import compile_plan
from flywheel.kernel.splits import TooLittleHistory
from flywheel.kernel.vector import assemble
from services.trainer.labels import IN_HISTORY, LABEL, Known, matured_requests

Retrieval = Callable[[pa.Table], pa.Table]
"""Adds windowed features and attributes to requests (keys, `event_timestamp`, `ingest_time`, `backfilled`), as known at
each; keeps rows and columns."""

TIMESTAMP = "event_timestamp"

_LATE_SHARE = 0.01

_log = logger(__name__)


class IncompleteHistory(Exception):
    """The feature history does not cover the request events; training on it would teach gaps."""


@dataclass(frozen=True)
class TrainingSet:
    """Rows of the model's input in the order of time: (n, features), (n,), (n,) and, as retrieved, (n, columns).

    `requests` holds the events' ids, keys, times, windowed features and attributes, as text and float64.
    """

    rows: NDArray[np.float32]
    labels: NDArray[np.bool_]
    times_us: NDArray[np.int64]
    requests: pa.Table

    def replaced(self, places: NDArray[np.intp], rows: NDArray[np.float32]) -> TrainingSet:
        """The same set with other rows at these places."""
        changed = self.rows.copy()
        changed[places] = rows
        return replace(self, rows=changed)


def read_training_set(lake: Path, usecase: UseCase, history: HistoryBuilt, retrieve: Retrieval) -> TrainingSet:
    """The training set as known at the end of the history. Raises TooLittleHistory and IncompleteHistory."""
    view = compile_plan(usecase).views[0]
    snapshot = Path(history.path) / view.history_name / f"snapshot={history.snapshot_id}"
    if not snapshot.is_dir():
        raise IncompleteHistory(f"snapshot {history.snapshot_id} is not there any more")
    requests = _covered(matured_requests(lake, usecase, Known.by(history), snapshot))
    if not len(requests):
        raise TooLittleHistory(f"no {usecase.request.event_name} is older than {usecase.label.matures_after} yet")
    found = retrieve(requests)
    if len(found) != len(requests):
        raise IncompleteHistory(f"{len(requests)} events came back as {len(found)} rows of features")
    return _assembled(usecase, _in_order(usecase, found))


def _covered(requests: pa.Table) -> pa.Table:
    """The requests without those that arrived after the history was built, if those are few.

    They would otherwise get the features of the event before them.
    """
    covered = requests[IN_HISTORY]
    missing = len(requests) - int(pc.sum(covered).as_py() or 0)
    if missing > _LATE_SHARE * len(requests):
        raise IncompleteHistory(f"{missing} of {len(requests)} events have no feature history")
    if missing:
        _log.info("events_newer_than_history", rows=missing)
        requests = requests.filter(covered)
    return requests.drop_columns(IN_HISTORY).rename_columns({"event_time": TIMESTAMP})


def _in_order(usecase: UseCase, found: pa.Table) -> pa.Table:
    """The table by time. Raises IncompleteHistory when a row came back without its features."""
    for view in compile_plan(usecase).views:
        absent = [pc.is_null(found[feature.name], nan_is_null=True) for feature in view.features]
        bare = np.logical_and.reduce([column.to_numpy() for column in absent])
        if bare.any():
            raise IncompleteHistory(
                f"{int(bare.sum())} of {len(found)} events came back without features by {view.entity.name}"
            )
    return found.sort_by([(TIMESTAMP, "ascending"), ("event_id", "ascending")])


def _assembled(usecase: UseCase, found: pa.Table) -> TrainingSet:
    times_us = found[TIMESTAMP].cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_numpy()
    columns = {feature.name: _numbers(found[feature.name]) for feature in usecase.retrieved}
    columns |= {REQUEST + name: _numbers(found[name]) for name in numeric_fields(usecase.request)}
    columns[REQUEST_TIME] = times_us.astype(np.float64)
    labels = found[LABEL].to_numpy().astype(np.bool_)
    return TrainingSet(assemble(usecase, columns), labels, times_us, found)


def _numbers(column: pa.ChunkedArray) -> Column:
    """As float64; NaN where there is none."""
    numbers: Column = column.cast(pa.float64()).to_numpy()
    return numbers
