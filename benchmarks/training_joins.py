"""One point-in-time join in a process of its own: `python -m benchmarks.training_joins SIDE DIRECTORY`.

Prints JSON: seconds from the requests in memory to the joined table in memory, and the peak of resident memory. The
joined table is then written beside the requests.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.training_history import FEATURES_EACH
from flywheel.adapters.point_in_time import HistorySource, JoinLimits, join_point_in_time

THREADS = 2
MEMORY_MIB = 512
"""What our join may keep in DuckDB."""

Join = Callable[[], pa.Table]


def sources_in(directory: Path) -> list[HistorySource]:
    """The views that were drawn there."""
    return [
        HistorySource(
            key, directory / key, ((key, key),), tuple(f"{key}_feature_{number}" for number in range(FEATURES_EACH))
        )
        for key in ("card_id", "terminal_id")
    ]


def ours(directory: Path) -> Join:
    """The join that the trainer uses."""
    requests, sources = pq.read_table(directory / "requests.parquet"), sources_in(directory)
    limits = JoinLimits(MEMORY_MIB, directory / "spill", THREADS)
    return lambda: join_point_in_time(requests, sources, limits)


def by_hand(directory: Path) -> Join:
    """The plain ASOF join that one writes by hand: it does not decide ties and keeps no order."""
    import duckdb

    requests = pq.read_table(directory / "requests.parquet")
    database = duckdb.connect(config={"threads": THREADS})
    database.execute("SET TimeZone = 'UTC'")
    database.register("requests", requests)
    joins, columns = [], ["requests.*"]
    for source in sources_in(directory):
        joins.append(
            f"ASOF LEFT JOIN read_parquet('{source.directory}/*.parquet') {source.name}_view "
            f"ON requests.{source.name} = {source.name}_view.{source.name} "
            f"AND requests.event_timestamp >= {source.name}_view.event_timestamp"
        )
        columns += [f"{source.name}_view.{feature}" for feature in source.features]
    query = f"SELECT {', '.join(columns)} FROM requests {' '.join(joins)}"
    return lambda: database.sql(query).to_arrow_table()


def feast(directory: Path) -> Join:
    """Feast's `get_historical_features` on its DuckDB offline store."""
    import warnings
    from datetime import timedelta

    warnings.simplefilter("ignore")
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
    from feast.types import Float64

    registry = directory / "feast.db"
    registry.unlink(missing_ok=True)
    config = RepoConfig(
        project="training",
        provider="local",
        registry=str(registry),
        repo_path=directory,
        offline_store={"type": "duckdb"},
    )
    store, views, sources = FeatureStore(config=config), [], sources_in(directory)
    for source in sources:
        files = FileSource(
            name=f"{source.name}_files",
            path=str(source.directory / "*.parquet"),
            timestamp_field="event_timestamp",
            created_timestamp_column="created_timestamp",
        )
        entity = Entity(name=source.name, join_keys=[source.name], value_type=ValueType.STRING)
        fields = [Field(name=name, dtype=Float64) for name in source.features]
        view = FeatureView(
            name=f"{source.name}_view", entities=[entity], schema=fields, source=files, ttl=timedelta(0), online=False
        )
        views += [entity, view]
    store.apply(views)
    frame = pq.read_table(directory / "requests.parquet").to_pandas()
    wanted = [f"{source.name}_view:{name}" for source in sources for name in source.features]
    return lambda: store.get_historical_features(entity_df=frame, features=wanted).to_arrow()


SIDES: dict[str, Callable[[Path], Join]] = {"ours": ours, "by_hand": by_hand, "feast": feast}


def main() -> None:
    """Runs one side once."""
    side, directory = sys.argv[1], Path(sys.argv[2])
    join = SIDES[side](directory)
    before_mib = _resident_mib()
    began = time.perf_counter()
    joined = join()
    seconds = time.perf_counter() - began
    measured = {"seconds": seconds, "peak_mib": _resident_mib(), "before_mib": before_mib, "rows": joined.num_rows}
    pq.write_table(joined, directory / f"{side}.parquet")
    print(json.dumps(measured))


def _resident_mib() -> float:
    """The highest resident memory of this program so far."""
    # `getrusage` would also count the program that started this one.
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


if __name__ == "__main__":
    main()
