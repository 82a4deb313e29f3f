"""Calibration measures know a calibrated score from one that is not."""

from __future__ import annotations

import numpy as np
import pytest

from flywheel.kernel.calibration import excess_calibration_error, expected_calibration_error, observed_to_expected


def drawn(share: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    scores = rng.beta(0.5, 5, 50_000)
    return rng.random(50_000) < scores * share, scores


def test_probabilities_that_are_true_have_little_error() -> None:
    labels, scores = drawn()
    assert expected_calibration_error(labels, scores) < 0.01
    assert observed_to_expected(labels, scores) == pytest.approx(1, abs=0.03)


def test_scores_twice_too_high_show_in_both() -> None:
    labels, scores = drawn(share=0.5)
    assert expected_calibration_error(labels, scores) == pytest.approx(scores.mean() / 2, rel=0.05)
    assert observed_to_expected(labels, scores) == pytest.approx(0.5, abs=0.03)


def test_nothing_measured_is_no_number() -> None:
    assert np.isnan(expected_calibration_error([], []))
    assert np.isnan(observed_to_expected([1, 0], [0.0, 0.0]))


def test_a_calibrated_model_is_not_blamed_for_a_small_sample() -> None:
    plain, excess, overconfident = [], [], []
    for seed in range(20):
        random = np.random.default_rng(seed)
        scores = random.beta(0.1, 4, 3_000)
        labels = random.random(3_000) < scores
        plain.append(expected_calibration_error(labels, scores))
        excess.append(excess_calibration_error(labels, scores))
        overconfident.append(excess_calibration_error(labels, scores / 4))
    assert np.mean(excess) < np.mean(plain) / 2
    assert max(excess) < 0.01 < min(overconfident)
