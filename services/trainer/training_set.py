"""The rows a model learns from: matured request events with the features they had at their own time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flywheel.adapters.logs import logger
from flywheel.contracts.training import HistoryBuilt
from flywheel.kernel.declaration import UseCase
from flywheel.kernel.plan import compile_plan
from flywheel.kernel.splits import TooLittleHistory
from flywheel.kernel.vector import assemble
from services.trainer.labels import IN_HISTORY, LABEL, matured_requests

Retrieval = Callable[[pd.DataFrame], pd.DataFrame]
"""Adds the windowed features to an entity frame (keys, `event_timestamp`), point-in-time; keeps rows and columns."""

_LATE_SHARE = 0.01

_log = logger(__name__)


class IncompleteHistory(Exception):
    """The feature history does not cover the request events; training on it would teach gaps."""


@dataclass(frozen=True)
class TrainingSet:
    """Rows of the model's input in the order of time: (n, features), (n,) and (n,)."""

    rows: NDArray[np.float32]
    labels: NDArray[np.bool_]
    times_us: NDArray[np.int64]


def read_training_set(lake: Path, usecase: UseCase, history: HistoryBuilt, retrieve: Retrieval) -> TrainingSet:
    """The training set as known at the end of the history. Raises TooLittleHistory and IncompleteHistory."""
    view = compile_plan(usecase).views[0]
    snapshot = Path(history.path) / view.history_name / f"snapshot={history.snapshot_id}"
    if not snapshot.is_dir():
        raise IncompleteHistory(f"snapshot {history.snapshot_id} is not there any more")
    requests = _covered(matured_requests(lake, usecase, history.event_time_until, snapshot))
    if requests.empty:
        raise TooLittleHistory(f"no {usecase.request.event_name} is older than {usecase.label.matures_after} yet")
    requests["event_timestamp"] = requests.pop("event_time").dt.as_unit("us")
    frame = retrieve(requests)
    if len(frame) != len(requests):
        raise IncompleteHistory(f"{len(requests)} events came back as {len(frame)} rows of features")
    return _assembled(usecase, _in_order(usecase, frame))


def _covered(requests: pd.DataFrame) -> pd.DataFrame:
    """The requests without those that arrived after the history was built, if those are few.

    They would otherwise get the features of the event before them.
    """
    missing = int((~requests[IN_HISTORY]).sum())
    if missing > _LATE_SHARE * len(requests):
        raise IncompleteHistory(f"{missing} of {len(requests)} events have no feature history")
    if missing:
        _log.info("events_newer_than_history", rows=missing)
    return requests[requests[IN_HISTORY]].drop(columns=IN_HISTORY).reset_index(drop=True)


def _in_order(usecase: UseCase, frame: pd.DataFrame) -> pd.DataFrame:
    """The frame by time. Raises IncompleteHistory when a row came back without its features."""
    for view in compile_plan(usecase).views:
        bare = int(frame[[feature.name for feature in view.features]].isna().all(axis=1).sum())
        if bare:
            raise IncompleteHistory(f"{bare} of {len(frame)} events came back without features by {view.entity.name}")
    return frame.sort_values(["event_timestamp", "event_id"], kind="stable", ignore_index=True)


def _assembled(usecase: UseCase, frame: pd.DataFrame) -> TrainingSet:
    times_us = frame["event_timestamp"].dt.tz_convert("UTC").dt.as_unit("us").astype("int64").to_numpy()
    columns = {feature.name: frame[feature.name].to_numpy(np.float64) for feature in usecase.windowed}
    for name, info in usecase.request.model_fields.items():
        if info.annotation in (int, float):
            columns[f"request.{name}"] = frame[name].to_numpy(np.float64)
    columns["request.event_time_us"] = times_us.astype(np.float64)
    return TrainingSet(assemble(usecase, columns), frame[LABEL].to_numpy(np.bool_), times_us)
