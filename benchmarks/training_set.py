"""Measures the making of a training set: `python -m benchmarks.training_set`.

Ours, Feast's on its DuckDB store, and a plain ASOF join written by hand, on the same files, each run in a process of
its own, in turn; medians. Two million rows of history (two entities, fifteen features each), a million requests. Feast
compares every request with every earlier row of its entity, so it is measured on fewer rows if need be, and ours beside
it on the very same.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.figures import ROOT, Figure, write
from benchmarks.training_history import FEATURES_EACH, draw
from benchmarks.training_joins import MEMORY_MIB, sources_in

GOALS = {
    "training_set_vs_feast": ">= 10",
    "training_set_vs_duckdb": "<= 1.3",
    "training_set_mismatches_vs_oracle": "== 0",
    "training_set_mismatches_vs_feast": "== 0",
}

_SAMPLED = 1_000
_FEAST_TIMEOUT_S = 600

Runs = dict[str, list[dict[str, Any]]]


def main() -> None:
    """Measures and writes `build/figures/features-training-set.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--feast-rows", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=5, help="of ours and of the join by hand, each")
    parser.add_argument("--feast-runs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=_scratch()) as scratch:
        directory = Path(scratch) / "whole"
        draw(directory, chosen.rows, chosen.seed)
        runs = measure(directory, ("ours", "by_hand"), chosen.runs)
        wrong = oracle_mismatches(directory, chosen.seed)
        beside = directory
        if chosen.feast_rows != chosen.rows:
            beside = Path(scratch) / "part"
            draw(beside, chosen.feast_rows, chosen.seed)
        feast_runs = measure(beside, ("ours", "feast"), chosen.feast_runs)
        differing = feast_mismatches(beside)
    figures = summarise(runs, feast_runs) | {
        "training_set_rows": chosen.rows,
        "training_set_rows_vs_feast": chosen.feast_rows,
        "training_set_features": 2 * FEATURES_EACH,
        "training_set_mismatches_vs_oracle": wrong,
        "training_set_oracle_rows": min(_SAMPLED, chosen.rows),
        "training_set_mismatches_vs_feast": differing,
    }
    path = write("features-training-set", figures, GOALS)
    print(path.read_text(), end="")


def measure(directory: Path, sides: Sequence[str], runs: int) -> Runs:
    """What each side printed, run after run, the sides in turn."""
    found: Runs = {side: [] for side in sides}
    for number in range(runs):
        for side in sides if number % 2 == 0 else tuple(reversed(sides)):
            measured = run(side, directory)
            print(f"{side}: {measured['seconds']:.2f} s, {measured['peak_mib']:.0f} MiB", flush=True)
            found[side].append(measured)
    return found


def run(side: str, directory: Path) -> dict[str, Any]:
    """One join in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.training_joins", side, str(directory)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=_FEAST_TIMEOUT_S)
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured


def summarise(runs: Runs, feast_runs: Runs) -> dict[str, Figure]:
    """Medians and their ratios; both sides of each."""
    ours, by_hand = _median(runs["ours"], "seconds"), _median(runs["by_hand"], "seconds")
    ours_beside, feast = _median(feast_runs["ours"], "seconds"), _median(feast_runs["feast"], "seconds")
    return {
        "training_set_s": round(ours, 3),
        "training_set_duckdb_s": round(by_hand, 3),
        "training_set_vs_duckdb": round(ours / by_hand, 2),
        "training_set_runs": len(runs["ours"]),
        "training_set_vs_feast": round(feast / ours_beside, 1),
        "training_set_feast_s": round(feast, 2),
        "training_set_beside_feast_s": round(ours_beside, 3),
        "training_set_feast_runs": len(feast_runs["feast"]),
        "training_set_peak_mib": round(_median(runs["ours"], "peak_mib")),
        "training_set_before_mib": round(_median(runs["ours"], "before_mib")),
        "training_set_duckdb_limit_mib": MEMORY_MIB,
        "training_set_duckdb_peak_mib": round(_median(runs["by_hand"], "peak_mib")),
        "training_set_feast_peak_mib": round(_median(feast_runs["feast"], "peak_mib")),
    }


def oracle_mismatches(directory: Path, seed: int) -> int:
    """Cells of sampled rows of ours that are not what a look at the whole history says."""
    joined, requests = pq.read_table(directory / "ours.parquet"), pq.read_table(directory / "requests.parquet")
    wrong = int(not joined.select(requests.column_names).equals(requests))
    sample = np.random.default_rng(seed).choice(len(requests), min(_SAMPLED, len(requests)), replace=False)
    asked = requests.take(sample)
    times_us = asked["event_timestamp"].cast(pa.int64()).to_numpy()
    for source in sources_in(directory):
        history = pa.concat_tables(pq.read_table(path) for path in sorted(source.directory.glob("*.parquet")))
        keys = history[source.name].combine_chunks().dictionary_encode()
        codes, past_us = keys.indices.to_numpy(), history["event_timestamp"].cast(pa.int64()).to_numpy()
        created_us = history["created_timestamp"].cast(pa.int64()).to_numpy()
        owners = pc.index_in(asked[source.name], keys.dictionary).fill_null(-1).to_numpy()
        values = np.column_stack([history[name].to_numpy() for name in source.features])
        found = np.column_stack([joined[name].take(sample).to_numpy() for name in source.features])
        for row, (owner, at_us) in enumerate(zip(owners.tolist(), times_us.tolist(), strict=True)):
            places = np.flatnonzero((codes == owner) & (past_us <= at_us))
            seen = max(places.tolist(), key=lambda place: (past_us[place], created_us[place]), default=None)
            wanted = np.full(len(source.features), np.nan) if seen is None else values[seen]
            wrong += int((~((found[row] == wanted) | (np.isnan(found[row]) & np.isnan(wanted)))).sum())
    return wrong


def feast_mismatches(directory: Path) -> int:
    """Cells in which ours and Feast's differ, over all rows; rows that one of them lacks count as a cell each."""
    joined = [pq.read_table(directory / f"{side}.parquet").sort_by("row") for side in ("ours", "feast")]
    ours, feast = joined
    if len(ours) != len(feast):
        return abs(len(ours) - len(feast))
    names = [name for source in sources_in(directory) for name in source.features]
    pairs = ((table[name].to_numpy() for table in joined) for name in ("row", *names))
    return sum(int((~((mine == theirs) | (np.isnan(mine) & np.isnan(theirs)))).sum()) for mine, theirs in pairs)


def _median(runs: list[dict[str, Any]], name: str) -> float:
    return float(median(each[name] for each in runs))


def _scratch() -> Path:
    directory = ROOT / "build"
    directory.mkdir(exist_ok=True)
    return directory


if __name__ == "__main__":
    main()
