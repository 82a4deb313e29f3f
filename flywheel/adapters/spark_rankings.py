"""Logged rankings in Spark: each candidate that was shown as the decision to show it, as `RankingLogged` gives them."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from flywheel.contracts.decisions import Fallback
from flywheel.contracts.rankings import SHOW

_TEXTS = T.ArrayType(T.StringType())
_NUMBERS = T.ArrayType(T.DoubleType())
_SAME = (
    "event_time",
    "decided_at",
    "unit",
    "arm",
    "model_version",
    "fallback",
    "feature_names",
    "feature_lag_ms",
    "stage_ms",
    "step",
    "propensity",
    "criticality",
    "writer",
    "sequence",
    "lost_before",
)
"""Fields that every candidate has from its ranking."""

_SCHEMA = T.StructType(
    [
        *(T.StructField(name, T.StringType()) for name in ("decision_id", "request_id", "usecase", "event_id")),
        *(T.StructField(name, T.TimestampType()) for name in ("event_time", "decided_at")),
        *(T.StructField(name, T.StringType()) for name in ("unit", "arm", "model_version", "fallback", "step")),
        *(T.StructField(name, T.DoubleType()) for name in ("propensity", "feature_lag_ms")),
        *(T.StructField(name, T.StringType()) for name in ("criticality", "writer")),
        *(T.StructField(name, T.LongType()) for name in ("sequence", "lost_before")),
        *(T.StructField(name, _TEXTS) for name in ("shown", "feature_names", "sources", "tables")),
        T.StructField("scores", _NUMBERS),
        *(T.StructField(name, T.ArrayType(_NUMBERS)) for name in ("features", "ages_ms")),
        T.StructField("statuses", T.ArrayType(_TEXTS)),
        T.StructField("stage_ms", T.MapType(T.StringType(), T.DoubleType())),
    ]
)


def parsed_rankings(records: DataFrame) -> DataFrame:
    """From records of the decisions' topic: a `decision` for each candidate shown, and the record's place."""
    text = F.col("value").cast("string")
    rankings = records.select(F.from_json(text, _SCHEMA, {"mode": "PERMISSIVE"}).alias("r"), "partition", "offset")
    shown = rankings.select("r", "partition", "offset", F.posexplode("r.shown").alias("place", "candidate"))
    return shown.select(_decision().alias("decision"), "partition", "offset")


def _decision() -> Column:
    place = F.col("place")
    as_usual = F.col("r.fallback") == str(Fallback.NONE)
    ages = F.map_from_arrays("r.tables", F.element_at("r.ages_ms", place + 1))
    fields = {name: F.col(f"r.{name}") for name in _SAME} | {
        "decision_id": F.concat_ws(":", "r.decision_id", place.cast("string")),
        "request_id": F.col("r.request_id"),
        "usecase": F.col("r.usecase"),
        "event_id": F.concat_ws(":", "r.event_id", "candidate"),
        "score": F.element_at("r.scores", place + 1),
        "action": F.lit(SHOW),
        "reasons": F.when(as_usual, F.array().cast(_TEXTS)).otherwise(F.array("r.fallback")),
        "features": F.element_at("r.features", place + 1),
        "feature_status": F.map_from_arrays("r.sources", F.element_at("r.statuses", place + 1)),
        "feature_age_ms": F.map_filter(ages, lambda _, age_ms: age_ms.isNotNull()),
        "value": F.lit(0.0),
    }
    return F.struct(*(column.alias(name) for name, column in fields.items()))
