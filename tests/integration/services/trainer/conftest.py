"""A small lake of simulated payments, and their features computed by the kernel."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flywheel.contracts.events import from_us
from flywheel.contracts.training import HistoryBuilt
from flywheel.kernel.durations import DAY_US
from flywheel.kernel.history import PastEvents, history
from flywheel.kernel.plan import TileView, compile_plan
from usecases.fraud import usecase
from usecases.fraud.world import FraudWorld, Knobs

DAYS = 60
ARRIVED = datetime(2018, 7, 1, tzinfo=UTC)


class SmallWorld:
    """Sixty days of payments of a few hundred cards with much fraud, archived as the features service does it."""

    def __init__(self, lake: Path) -> None:
        self.lake = lake
        world = FraudWorld(Knobs(seed=3, customers=300, prevalence=2.0, history_days=DAYS))
        occurrences = [event for number in range(DAYS) for event in world.day(number).events]
        self.frames = {
            name: pd.DataFrame([dict(event.fields) for event in occurrences if event.event_name == name])
            for name in ("transaction", "chargeback")
        }
        for name, frame in self.frames.items():
            frame["event_time"] = pd.to_datetime(frame["event_time"], utc=True).dt.as_unit("us")
            self.archive(name, frame, batch_id=0, ingest_time=ARRIVED)
        self.until_us = world.start_us + DAYS * DAY_US

    def archive(self, name: str, frame: pd.DataFrame, *, batch_id: int, ingest_time: datetime) -> None:
        """Appends events to the lake."""
        for date, part in frame.groupby(frame["event_time"].dt.date):
            directory = self.lake / "fraud" / name / f"event_date={date}" / f"batch_id={batch_id}"
            directory.mkdir(parents=True, exist_ok=True)
            rows = part.assign(
                ingest_time=pd.Timestamp(ingest_time).as_unit("us"),
                request_id="r",
                kafka_partition=0,
                kafka_offset=np.arange(len(part)),
            )
            pq.write_table(pa.Table.from_pandas(rows, preserve_index=False), directory / "part-0.parquet")

    def message(self, request_id: str = "first", days: float = DAYS) -> HistoryBuilt:
        return HistoryBuilt(
            request_id=request_id,
            snapshot_id="s1",
            path="unused",
            event_time_until=from_us(self.until_us) - timedelta(days=DAYS - days),
            rows=len(self.frames["transaction"]),
            reason="first model",
        )

    def retrieve(self, requests: pd.DataFrame) -> pd.DataFrame:
        """The features of each request at its own time."""
        found = requests.copy()
        for view in compile_plan(usecase).views:
            values = np.full((len(found), len(view.features)), np.nan)
            for key, rows in found.groupby(view.entity.key).indices.items():
                at_us = found["event_timestamp"].iloc[rows].to_numpy().astype(np.int64)
                values[rows] = history(view, self._past(view, str(key)), at_us)
            found[[feature.name for feature in view.features]] = values
        return found

    def _past(self, view: TileView, key: str) -> dict[str, PastEvents]:
        past = {}
        for name in ("transaction", "chargeback"):
            mine = self._grouped(name, view.entity.key).get(key)
            if mine is not None:
                past[name] = PastEvents(mine["event_time"].to_numpy().astype(np.int64), _fields(mine))
        return past

    def _grouped(self, name: str, key: str) -> dict[str, pd.DataFrame]:
        cache = self.__dict__.setdefault("_groups", {})
        if (name, key) not in cache:
            cache[name, key] = {str(k): part for k, part in self.frames[name].sort_values("event_time").groupby(key)}
        found: dict[str, pd.DataFrame] = cache[name, key]
        return found


def _fields(frame: pd.DataFrame) -> dict[str, np.ndarray]:
    return {"amount_cents": frame["amount_cents"].to_numpy(np.int64)}


@pytest.fixture(scope="session")
def small_world(tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    return SmallWorld(tmp_path_factory.mktemp("lake"))


@pytest.fixture(scope="session")
def retrieve(small_world: SmallWorld) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """Features of the whole world, computed once."""
    transactions = small_world.frames["transaction"].rename(columns={"event_time": "event_timestamp"})
    names = [feature.name for feature in usecase.windowed]
    known = small_world.retrieve(transactions).set_index("event_id")[names]
    return lambda requests: requests.join(known, on="event_id")
