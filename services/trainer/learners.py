"""The two models of every use case: a logistic baseline and calibrated gradient-boosted trees.

Both are fitted in native form first and exported to ONNX second, so that the export can be checked against the native.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import lightgbm
import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from flywheel.adapters.onnx_export import LogisticWeights, export_boosted, export_logistic

Rows = NDArray[np.float32]
Labels = NDArray[np.bool_]

SEED = 20180401
# One: on cores that others use too, threads that wait for each other cost more than they bring.
_THREADS = 1
_MARGIN_BOUND = 35.0
"""Beyond it a probability differs from 0 or 1 by less than 1e-15."""


@dataclass(frozen=True)
class Sample:
    """Rows of the model's input, shape (n, features), and whether each is positive, shape (n,)."""

    rows: Rows
    labels: Labels


class Fitted(Protocol):
    """A trained model, native."""

    @property
    def algorithm(self) -> str:
        """Names the kind of model in its version."""

    def probability(self, rows: Rows) -> NDArray[np.float64]:
        """Probability of the positive label, shape (n,)."""

    def export(self) -> bytes:
        """The model as an ONNX file."""

    def thresholds(self) -> list[tuple[int, float]]:
        """Where the model's output jumps: (index of the feature, value)."""

    def importance(self) -> NDArray[np.float64]:
        """Each feature's share of what the model draws from its features, shape (features,); zeros if it draws none."""

    def parameters(self) -> dict[str, Any]:
        """What the model was trained with, for the record."""


@dataclass(frozen=True)
class LogisticBaseline:
    """Logistic regression on squashed, standardised features."""

    weights: LogisticWeights
    algorithm: str = "logistic"

    def probability(self, rows: Rows) -> NDArray[np.float64]:
        weights = self.weights
        standard = (_squash(rows) - weights.mean) / weights.scale
        return np.asarray(expit(standard @ weights.coefficients + weights.intercept), dtype=np.float64)

    def export(self) -> bytes:
        return export_logistic(self.weights)

    def thresholds(self) -> list[tuple[int, float]]:
        return []

    def importance(self) -> NDArray[np.float64]:
        # The features are standardised, so their coefficients are comparable.
        return _shares(np.abs(self.weights.coefficients))

    def parameters(self) -> dict[str, Any]:
        return {"transform": "sign(x) ln(1 + |x|), standardised", "penalty": "l2", "C": 1.0}


@dataclass(frozen=True)
class CalibratedTrees:
    """Gradient-boosted trees whose margin is turned into a probability by a sigmoid fitted on held-out rows."""

    booster: lightgbm.Booster
    slope: float
    intercept: float
    settings: dict[str, Any] = field(default_factory=dict)
    algorithm: str = "lightgbm"

    def probability(self, rows: Rows) -> NDArray[np.float64]:
        margins = np.asarray(self.booster.predict(rows, raw_score=True, num_threads=_THREADS), dtype=np.float64)
        return np.asarray(expit(self.slope * margins + self.intercept), dtype=np.float64)

    def export(self) -> bytes:
        return export_boosted(self.booster.dump_model(), self.slope, self.intercept)

    def thresholds(self) -> list[tuple[int, float]]:
        found: list[tuple[int, float]] = []
        waiting = [tree["tree_structure"] for tree in self.booster.dump_model()["tree_info"]]
        while waiting:
            node = waiting.pop()
            if "split_feature" in node:
                found.append((int(node["split_feature"]), float(node["threshold"])))
                waiting += [node["left_child"], node["right_child"]]
        return found

    def importance(self) -> NDArray[np.float64]:
        return _shares(np.asarray(self.booster.feature_importance("gain"), dtype=np.float64))

    def parameters(self) -> dict[str, Any]:
        return {
            **self.settings,
            "trees": self.booster.num_trees(),
            "calibration_slope": self.slope,
            "calibration_intercept": self.intercept,
        }


def fit_baseline(train: Sample, calibrate: Sample) -> LogisticBaseline:
    """The baseline, fitted on both parts: it has nothing to tune."""
    squashed = _squash(np.concatenate([train.rows, calibrate.rows]))
    scaler = StandardScaler().fit(squashed)
    model = LogisticRegression(max_iter=1000).fit(
        scaler.transform(squashed), np.concatenate([train.labels, calibrate.labels])
    )
    return LogisticBaseline(
        LogisticWeights(scaler.mean_, scaler.scale_, model.coef_[0].astype(np.float64), float(model.intercept_[0]))
    )


TREES: dict[str, Any] = {
    "objective": "binary",
    "num_leaves": 31,
    "learning_rate": 0.04,
    "min_data_in_leaf": 50,
    "feature_fraction": 0.7,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "lambda_l2": 5.0,
    "metric": "binary_logloss",
    "seed": SEED,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": _THREADS,
    "verbosity": -1,
}
MAX_TREES = 300
_PATIENCE = 40


def fit_trees(train: Sample, calibrate: Sample) -> CalibratedTrees:
    """Boosted trees, as many as serve the later rows best, then calibrated on those and refitted on all.

    The calibration comes from predictions on rows the trees had not seen; the refit only adds the newest rows.
    """
    data = lightgbm.Dataset(train.rows, train.labels)
    held_out = lightgbm.Dataset(calibrate.rows, calibrate.labels, reference=data)
    stop = lightgbm.early_stopping(_PATIENCE, verbose=False)
    tuned = lightgbm.train(TREES, data, MAX_TREES, valid_sets=[held_out], callbacks=[stop])
    margins = np.asarray(tuned.predict(calibrate.rows, raw_score=True), dtype=np.float64)
    slope, intercept = _sigmoid(margins, calibrate.labels)
    everything = lightgbm.Dataset(
        np.concatenate([train.rows, calibrate.rows]), np.concatenate([train.labels, calibrate.labels])
    )
    booster = lightgbm.train(TREES, everything, tuned.best_iteration)
    return CalibratedTrees(booster, slope, intercept, dict(TREES))


def _sigmoid(margins: NDArray[np.float64], labels: Labels) -> tuple[float, float]:
    """Slope and intercept that make `sigmoid(slope * margin + intercept)` most likely (Platt's method)."""
    bounded = np.clip(margins, -_MARGIN_BOUND, _MARGIN_BOUND).reshape(-1, 1)
    fitted = LogisticRegression(C=1e6, max_iter=1000).fit(bounded, labels)
    return float(fitted.coef_[0, 0]), float(fitted.intercept_[0])


def _shares(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    total = weights.sum()
    return weights / total if total > 0 else np.zeros_like(weights)


def _squash(rows: Rows) -> NDArray[np.float64]:
    filled = np.nan_to_num(rows.astype(np.float64), nan=0.0, posinf=None, neginf=None)
    return np.asarray(np.sign(filled) * np.log1p(np.abs(filled)), dtype=np.float64)
