"""What is measured about a trained model before the gates judge it."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flywheel.adapters.logs import logger
from flywheel.adapters.onnx_scorer import OnnxScorer
from flywheel.kernel.calibration import excess_calibration_error, expected_calibration_error, observed_to_expected
from flywheel.kernel.evaluation import average_precision, roc_auc
from flywheel.kernel.gates import Soundness
from flywheel.kernel.ports import Scorer
from services.trainer.learners import SEED, Fitted, Rows, Sample

_log = logger(__name__)

_PROBES = 2_000
_TIMED_ROWS = 300


@dataclass(frozen=True)
class Appraised:
    """A model, its export, and how the export did on rows that came after all it learnt from."""

    fitted: Fitted
    model: bytes
    scores: NDArray[np.float64]
    metrics: dict[str, float]
    parity: float
    score_ms: float

    @property
    def soundness(self) -> Soundness:
        """What the gates ask about the model alone."""
        return Soundness(
            calibration_error=self.metrics["excess_calibration_error"],
            observed_to_expected=self.metrics["observed_to_expected"],
            parity=self.parity,
            score_ms=self.score_ms,
        )


def appraise(fitted: Fitted, validate: Sample) -> Appraised:
    """The model exported and measured; all metrics are of the export, which is what will decide."""
    model = fitted.export()
    scorer = OnnxScorer(model)
    scores = scorer.score(validate.rows)
    metrics = measured(validate.labels, scores)
    _log.info("model_appraised", algorithm=fitted.algorithm, average_precision=metrics["average_precision"])
    return Appraised(
        fitted=fitted,
        model=model,
        scores=scores,
        metrics=metrics,
        parity=parity(fitted, scorer, validate.rows),
        score_ms=slow_score_ms(scorer, validate.rows),
    )


def measured(labels: NDArray[np.bool_], scores: NDArray[np.float64]) -> dict[str, float]:
    """Metrics of scores against labels. A score that is no number makes all of them no number."""
    if not np.isfinite(scores).all():
        return dict.fromkeys(
            (
                "average_precision",
                "auc",
                "expected_calibration_error",
                "excess_calibration_error",
                "observed_to_expected",
            ),
            float("nan"),
        )
    return {
        "average_precision": average_precision(labels, scores),
        "auc": roc_auc(labels, scores),
        "expected_calibration_error": expected_calibration_error(labels, scores),
        "excess_calibration_error": excess_calibration_error(labels, scores),
        "observed_to_expected": observed_to_expected(labels, scores),
    }


def parity(fitted: Fitted, scorer: Scorer, rows: Rows) -> float:
    """Largest difference in probability between the native model and its export.

    Looked for on ordinary rows, on rows just beside the model's own thresholds, and on rows with missing values.
    """
    rng = np.random.default_rng(SEED)
    ordinary = rows[rng.integers(len(rows), size=_PROBES)]
    probes = np.concatenate([ordinary, _at_thresholds(fitted, ordinary, rng), _with_gaps(ordinary, rng)])
    difference = np.abs(fitted.probability(probes) - scorer.score(probes))
    return float(difference.max()) if np.isfinite(difference).all() else float("nan")


def slow_score_ms(scorer: Scorer, rows: Rows) -> float:
    """99th percentile of the time that one row takes, over differing rows."""
    taken = []
    for index in range(_TIMED_ROWS):
        row = rows[index % len(rows)][None, :]
        start = time.perf_counter()
        scorer.score(row)
        taken.append(time.perf_counter() - start)
    return float(np.quantile(taken, 0.99) * 1000)


def _at_thresholds(fitted: Fitted, rows: Rows, rng: np.random.Generator) -> Rows:
    """Rows that have one feature exactly at, just below or just above a threshold of the model."""
    probes = rows.copy()
    splits = fitted.thresholds()
    for row in range(len(probes) if splits else 0):
        feature, threshold = splits[int(rng.integers(len(splits)))]
        single = np.float32(threshold)
        towards = np.float32(np.inf if row % 3 == 1 else -np.inf)
        probes[row, feature] = single if row % 3 == 0 else np.nextafter(single, towards)
    return probes


def _with_gaps(rows: Rows, rng: np.random.Generator) -> Rows:
    probes = rows.copy()
    probes[rng.random(rows.shape) < 0.2] = np.nan
    return probes
