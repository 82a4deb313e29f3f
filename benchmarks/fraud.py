"""Measures the trained fraud model on the handbook's test protocol: `python -m benchmarks.fraud`.

Features come from the platform's Spark batch, models from the trainer, and what is judged is the exported ONNX file.
Beside it, on the very same simulated payments: the trainer's baseline, and the handbook's own features with its own
kind of model. The latter's figures next to the published ones say whether our worlds are as hard as the handbook's.
Several worlds are drawn, because from one to the next the figures move by some hundredths.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from benchmarks.figures import write
from benchmarks.handbook_features import handbook_features, logistic_scores
from benchmarks.handbook_protocol import (
    DAYS_EACH,
    FIRST_TEST_DAY,
    FIRST_TRAINING_DAY,
    Judgement,
    day_numbers,
    judge,
    test_rows,
    training_rows,
)
from flywheel.adapters.onnx_scorer import OnnxScorer
from flywheel.adapters.spark_history import build_history
from flywheel.adapters.spark_session import start_session
from flywheel.contracts.events import from_us, to_us
from flywheel.kernel.durations import DAY_US
from flywheel.kernel.plan import compile_plan
from flywheel.kernel.vector import assemble
from services.trainer.learners import Fitted, Rows, Sample, fit_baseline, fit_trees
from usecases.fraud import usecase
from usecases.fraud.handbook import CHARGEBACK_DELAY_DAYS, transactions
from usecases.fraud.simulation.start import START

WARM_UP_DAYS = 45
"""Longer than the longest window and its delay."""

PUBLISHED = {
    "logistic": Judgement(0.871, 0.606, 0.291),
    "random_forest": Judgement(0.867, 0.658, 0.287),
    "boosted": Judgement(0.862, 0.639, 0.273),
}
"""From the handbook's chapter 3, its simulated test set."""

GOALS = {"auc": ">= 0.871", "average_precision": ">= 0.658", "card_precision_100": ">= 0.291"}


def main() -> None:
    """Measures and writes `build/figures/fraud.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)), help="worlds to draw")
    seeds = parser.parse_args().seeds
    session = start_session("flywheel-figures-fraud", master="local[2]", heap_mib=2048, shuffle_partitions=4)
    judged: dict[str, list[Judgement]] = {"model": [], "baseline": [], "handbook_features_logistic": []}
    try:
        for seed in seeds:
            started = time.monotonic()
            for name, judgement in measure_world(session, seed).items():
                judged[name].append(judgement)
                print(_line(f"world {seed}, {name}", judgement), flush=True)
            print(f"world {seed} took {time.monotonic() - started:.0f} s", flush=True)
    finally:
        session.stop()
    figures = summarise(judged, seeds)
    for name, judgement in PUBLISHED.items():
        print(_line(f"published, {name}", judgement))
    for name in ("auc", "average_precision", "card_precision_100"):
        print(f"{name}: {figures[name]:.3f} (sd {figures[f'{name}_sd']:.3f} over {len(seeds)} worlds)")
    print(f"written to {write('fraud', figures, GOALS)}")


def measure_world(session: SparkSession, seed: int) -> dict[str, Judgement]:
    """How the model, the baseline and the handbook's features do in the world of that seed."""
    first_day, days = FIRST_TRAINING_DAY - WARM_UP_DAYS, FIRST_TEST_DAY + DAYS_EACH
    table = transactions(seed, days)
    table = table.filter(pc.greater_equal(table["event_time"], pa.scalar(from_us(to_us(START) + first_day * DAY_US))))
    payments = _looked_at(table)
    train, test = training_rows(payments["day"].to_numpy()), test_rows(payments)
    labels, tested = payments["is_fraud"].to_numpy(), payments[test]
    rows = _model_rows(session, table, payments)
    # The last training day tells when to stop and how to calibrate; the trees are then refitted on all seven.
    held_out = payments["day"].to_numpy() == FIRST_TRAINING_DAY + DAYS_EACH - 1
    parts = [Sample(rows[mask], labels[mask]) for mask in (train & ~held_out, train & held_out)]
    theirs = payments[["event_id"]].merge(handbook_features(table), on="event_id", how="left", validate="one_to_one")
    columns = theirs.drop(columns="event_id").to_numpy(np.float64)
    return {
        "model": judge(tested, _exported(fit_trees(*parts), rows[test])),
        "baseline": judge(tested, _exported(fit_baseline(*parts), rows[test])),
        "handbook_features_logistic": judge(tested, logistic_scores(columns[train], labels[train], columns[test])),
    }


def summarise(judged: Mapping[str, list[Judgement]], seeds: list[int]) -> dict[str, float | int]:
    """Means and standard deviations over the worlds; the model's means bear the plain names."""
    figures: dict[str, float | int] = {"worlds": len(seeds)}
    for name, judgements in judged.items():
        for metric in (field.name for field in dataclasses.fields(Judgement)):
            values = np.array([getattr(judgement, metric) for judgement in judgements])
            key = metric if name == "model" else f"{name}_{metric}"
            figures[key] = round(float(values.mean()), 4)
            figures[f"{key}_sd"] = round(float(values.std(ddof=1)) if len(values) > 1 else 0.0, 4)
    for name, published in PUBLISHED.items():
        figures |= {f"published_{name}_{key}": value for key, value in dataclasses.asdict(published).items()}
    return figures


def _looked_at(table: pa.Table) -> pd.DataFrame:
    """The payments from the first training day on, with the number of their day."""
    frame = table.select(["event_id", "event_time", "card_id", "amount_cents", "is_fraud"]).to_pandas()
    frame["card_id"] = frame["card_id"].astype(str)
    frame["time_us"] = frame.pop("event_time").dt.as_unit("us").astype("int64")
    frame["day"] = day_numbers(frame["time_us"].to_numpy())
    looked_at: pd.DataFrame = frame[frame["day"] >= FIRST_TRAINING_DAY].reset_index(drop=True)
    return looked_at


def _model_rows(session: SparkSession, table: pa.Table, payments: pd.DataFrame) -> Rows:
    """The model's input for those payments, by the platform's own batch of features."""
    with tempfile.TemporaryDirectory() as directory:
        events = {name: _stored(session, Path(directory), name, part) for name, part in _events(table).items()}
        columns = {
            "request.amount_cents": payments["amount_cents"].to_numpy(np.float64),
            "request.event_time_us": payments["time_us"].to_numpy(np.float64),
        }
        plan = compile_plan(usecase)
        for view in plan.views:
            since = F.lit(from_us(to_us(START) + FIRST_TRAINING_DAY * DAY_US))
            history = build_history(plan, view, events).where(F.col("event_timestamp") >= since).toPandas()
            names = [feature.name for feature in view.features]
            found = payments[["event_id"]].merge(history, on="event_id", how="left", validate="one_to_one")
            columns |= {name: found[name].to_numpy(np.float64) for name in names}
    return assemble(usecase, columns)


def _events(table: pa.Table) -> dict[str, pa.Table]:
    """Transactions as they happened, and a chargeback for each fraud a week later."""
    plain = table.select(["event_id", "event_time", "card_id", "terminal_id", "amount_cents"])
    plain = plain.set_column(2, "card_id", plain["card_id"].cast(pa.string()))
    plain = plain.set_column(3, "terminal_id", plain["terminal_id"].cast(pa.string()))
    frauds = plain.filter(table["is_fraud"])
    delay = pa.scalar(CHARGEBACK_DELAY_DAYS * DAY_US, pa.duration("us"))
    chargebacks = frauds.append_column("transaction_id", frauds["event_id"])
    chargebacks = chargebacks.set_column(0, "event_id", pc.binary_join_element_wise("cb", frauds["event_id"], "-"))
    return {
        "transaction": plain,
        "chargeback": chargebacks.set_column(1, "event_time", pc.add(frauds["event_time"], delay)),
    }


def _stored(session: SparkSession, directory: Path, name: str, table: pa.Table) -> DataFrame:
    path = directory / f"{name}.parquet"
    pq.write_table(table, path, coerce_timestamps="us", row_group_size=100_000)
    frame: DataFrame = session.read.parquet(str(path))
    return frame.withColumns({"ingest_time": F.col("event_time"), "backfilled": F.lit(True)})


def _exported(fitted: Fitted, rows: Rows) -> NDArray[np.float64]:
    return OnnxScorer(fitted.export()).score(rows)


def _line(what: str, judgement: Judgement) -> str:
    return (
        f"{what}: AUC {judgement.auc:.3f}, average precision {judgement.average_precision:.3f}, "
        f"card precision@100 {judgement.card_precision_100:.3f}"
    )


if __name__ == "__main__":
    main()
