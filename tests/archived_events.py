"""Events in the lake as the features service archives them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from flywheel.contracts.events import Event, from_us

_MOMENT = pa.timestamp("us", "UTC")


def archive_events(directory: Path, arrivals: Mapping[Event, int], *, batch_id: int = 0) -> None:
    """Writes events, with their arrival in microseconds, below `directory` by kind, date and batch."""
    by_place: dict[tuple[str, str], list[Event]] = defaultdict(list)
    for event in arrivals:
        by_place[event.event_name, f"{event.event_time:%Y-%m-%d}"].append(event)
    for (name, date), events in by_place.items():
        columns = {field: [getattr(event, field) for event in events] for field in type(events[0]).model_fields}
        table = pa.table(
            columns
            | {
                "event_time": pa.array([event.event_time for event in events], _MOMENT),
                "ingest_time": pa.array([from_us(arrivals[event]) for event in events], _MOMENT),
                "request_id": ["r"] * len(events),
                "kafka_partition": [0] * len(events),
                "kafka_offset": list(range(len(events))),
            }
        )
        place = directory / name / f"event_date={date}" / f"batch_id={batch_id}"
        place.mkdir(parents=True)
        pq.write_table(table, place / "part-0.parquet")
