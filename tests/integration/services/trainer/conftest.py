"""A small lake of simulated payments, and their features computed by the kernel."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from flywheel.contracts.events import from_us, to_us
from flywheel.contracts.training import HistoryBuilt
from flywheel.kernel.durations import DAY_US
from flywheel.kernel.history import Moments, history
from flywheel.kernel.plan import TileView, compile_plan
from flywheel.kernel.rows import Cells, event_hash, in_time, rows_of
from usecases.fraud import usecase
from usecases.fraud.world import FraudWorld, Knobs

DAYS = 60
SNAPSHOT = "s1"
ARRIVED = datetime(2018, 7, 1, tzinfo=UTC)
ARRIVED_US = to_us(ARRIVED)


class SmallWorld:
    """Sixty days of payments of a few hundred cards with much fraud, archived as the features service does it."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.lake = data / "lake"
        world = FraudWorld(Knobs(seed=4, customers=300, prevalence=2.0, history_days=DAYS))
        occurrences = [event for number in range(DAYS) for event in world.day(number).events]
        self.frames = {
            name: pd.DataFrame([dict(event.fields) for event in occurrences if event.event_name == name])
            for name in ("transaction", "chargeback")
        }
        for name, frame in self.frames.items():
            frame["event_time"] = pd.to_datetime(frame["event_time"], utc=True).dt.as_unit("us")
            self.archive(name, frame, batch_id=0, ingest_time=ARRIVED)
        self.until_us = world.start_us + DAYS * DAY_US
        self.features = self._write_history()

    def archive(
        self,
        name: str,
        frame: pd.DataFrame,
        *,
        batch_id: int,
        ingest_time: datetime,
        lake: Path | None = None,
        backfilled: bool | None = None,
    ) -> None:
        """Appends events to the lake, or to another. `backfilled` None: to files that have no such column."""
        for date, part in frame.groupby(frame["event_time"].dt.date):
            directory = (lake or self.lake) / "fraud" / name / f"event_date={date}" / f"batch_id={batch_id}"
            directory.mkdir(parents=True, exist_ok=True)
            rows = part.assign(
                ingest_time=pd.Timestamp(ingest_time).as_unit("us"),
                request_id="r",
                kafka_partition=0,
                kafka_offset=np.arange(len(part)),
            )
            if backfilled is not None:
                rows["backfilled"] = backfilled
            pq.write_table(pa.Table.from_pandas(rows, preserve_index=False), directory / "part-0.parquet")

    def message(self, request_id: str = "first", days: float = DAYS) -> HistoryBuilt:
        return HistoryBuilt(
            request_id=request_id,
            snapshot_id=SNAPSHOT,
            path=str(self.data / "history" / "fraud"),
            event_time_until=from_us(self.until_us) - timedelta(days=DAYS - days),
            rows=len(self.frames["transaction"]),
            reason="first model",
        )

    @property
    def snapshot(self) -> Path:
        """Where one view's history is."""
        return self.data / "history" / "fraud" / compile_plan(usecase).views[0].history_name / f"snapshot={SNAPSHOT}"

    def retrieve(self, requests: pa.Table) -> pa.Table:
        """The requests with the features they had, looked up by event."""
        return pa.Table.from_pandas(requests.to_pandas().join(self.features, on="event_id"), preserve_index=False)

    def _write_history(self) -> pd.DataFrame:
        """Features of every transaction by event_id, also written as a snapshot."""
        requests = self.frames["transaction"].rename(columns={"event_time": "event_timestamp"})
        found = [requests[["event_id"]]]
        times_us = _times_us(requests["event_timestamp"])
        for view in compile_plan(usecase).views:
            values = np.full((len(requests), len(view.features)), np.nan)
            key = view.entity.keys[0]
            ids, rows = self._rows(view)
            order = np.argsort(ids, kind="stable")
            ids, rows = ids[order], rows[order]
            for entity_id, mine in requests.groupby(key).indices.items():
                low, high = (int(np.searchsorted(ids, str(entity_id), side)) for side in ("left", "right"))
                known = np.full(len(mine), ARRIVED_US)
                moments = Moments(times_us[mine], _ties("transaction", requests["event_id"].iloc[mine]), known)
                values[mine] = history(view, in_time(rows[low:high]), moments)
            columns = pd.DataFrame(values, columns=[feature.name for feature in view.features])
            found.append(columns)
            directory = self.data / "history" / "fraud" / view.history_name / f"snapshot={SNAPSHOT}"
            directory.mkdir(parents=True)
            keyed = requests[[key, "event_timestamp", "event_id"]].assign(created_timestamp=ARRIVED)
            keyed["created_timestamp"] = keyed["created_timestamp"].dt.as_unit("us")
            table = pa.Table.from_pandas(pd.concat([keyed, columns], axis=1), preserve_index=False)
            pq.write_table(table, directory / "part-0.parquet")
        return pd.concat(found, axis=1).set_index("event_id")

    def _rows(self, view: TileView) -> tuple[NDArray[np.str_], Cells]:
        """Every event's row with the entity that it comes to."""
        ids: list[str] = []
        parts = []
        for event in view.events:
            frame = self.frames[event.event_name]
            columns = {name: frame[name].to_numpy() for name in view.fields_of(event)}
            known = np.full(len(frame), ARRIVED_US)
            ties = _ties(event.event_name, frame["event_id"])
            found, rows = rows_of(view, event, columns, _times_us(frame["event_time"]), ties, known)
            ids += found
            parts.append(rows)
        return np.array(ids), np.concatenate(parts)


def _ties(event_name: str, event_ids: pd.Series[str]) -> NDArray[np.int64]:
    return np.array([event_hash(event_name, event_id) for event_id in event_ids], np.int64)


def _times_us(times: pd.Series[pd.Timestamp]) -> NDArray[np.int64]:
    return np.asarray(times.astype("int64"), dtype=np.int64)


@pytest.fixture(scope="session")
def small_world(tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    return SmallWorld(tmp_path_factory.mktemp("data"))
