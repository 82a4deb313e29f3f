"""How good scores and decisions were, once the truth is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from flywheel.kernel.declaration import CostPolicy

_NAN = float("nan")


def roc_auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Probability that a random positive scores above a random negative, ties counting half; NaN without both kinds.

    >>> roc_auc([0, 1, 0, 1], [0.1, 0.4, 0.4, 0.8])
    0.875
    """
    positive, score = _pair(labels, scores)
    positives = int(positive.sum())
    negatives = positive.size - positives
    if not positives or not negatives:
        return _NAN
    _, place, repeats = np.unique(score, return_inverse=True, return_counts=True)
    middle_rank = np.cumsum(repeats) - (repeats - 1) / 2
    rank_sum = float(middle_rank[place][positive].sum())
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)


def auc_standard_error(auc: float, positives: int, negatives: int) -> float:
    """Sampling error of an AUC (Hanley and McNeil, 1982); NaN without both kinds.

    >>> round(auc_standard_error(0.9, 50, 5000), 4)
    0.0292
    """
    if not positives or not negatives:
        return _NAN
    both_above, both_below = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    spread = (positives - 1) * (both_above - auc**2) + (negatives - 1) * (both_below - auc**2)
    return float(np.sqrt((auc * (1 - auc) + spread) / (positives * negatives)))


def average_precision(labels: ArrayLike, scores: ArrayLike) -> float:
    """Mean of the precision over the recall steps, equal scores being one step; NaN without a positive.

    >>> average_precision([0, 1, 1], [0.9, 0.8, 0.7])
    0.5833333333333333
    """
    positive, score = _pair(labels, scores)
    if not positive.any():
        return _NAN
    order = np.argsort(-score, kind="stable")
    hits = np.cumsum(positive[order])
    step_ends = np.append(np.flatnonzero(np.diff(score[order])), score.size - 1)
    precision = hits[step_ends] / (step_ends + 1)
    recall_gain = np.diff(hits[step_ends], prepend=0) / hits[-1]
    return float(np.sum(precision * recall_gain))


@dataclass(frozen=True)
class Confusion:
    """Decisions against truth: `flagged` ones are those that were not simply let through."""

    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int

    @property
    def precision(self) -> float:
        """Share of flagged that were bad; NaN when nothing was flagged."""
        flagged = self.true_positive + self.false_positive
        return self.true_positive / flagged if flagged else _NAN

    @property
    def recall(self) -> float:
        """Share of bad that were flagged; NaN when nothing was bad."""
        bad = self.true_positive + self.false_negative
        return self.true_positive / bad if bad else _NAN


def confusion(labels: ArrayLike, flagged: ArrayLike) -> Confusion:
    """Counts of decisions by truth."""
    bad, flag = np.asarray(labels, dtype=bool), np.asarray(flagged, dtype=bool)
    if bad.shape != flag.shape:
        raise ValueError(f"{bad.size} labels for {flag.size} decisions")
    return Confusion(
        int((bad & flag).sum()), int((~bad & flag).sum()), int((bad & ~flag).sum()), int((~bad & ~flag).sum())
    )


def card_precision_at_k(days: ArrayLike, cards: ArrayLike, scores: ArrayLike, labels: ArrayLike, k: int) -> float:
    """Mean over days of the share of really compromised cards among the k cards with the highest score that day.

    A card's score of a day is its highest, its label is positive when any of its events was. Cards already known as
    compromised are for the caller to leave out. A day with fewer than k cards still counts k places. Equal scores
    are ordered by card. NaN without a day. Raises ValueError for k < 1.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    _, day = np.unique(np.asarray(days), return_inverse=True)
    _, card = np.unique(np.asarray(cards), return_inverse=True)
    positive, score = _pair(labels, scores)
    if not day.size:
        return _NAN
    pairs, place = np.unique(np.stack([day, card]), axis=1, return_inverse=True)
    top = np.full(pairs.shape[1], -np.inf)
    np.maximum.at(top, place, score)
    compromised = np.zeros(pairs.shape[1], dtype=bool)
    np.logical_or.at(compromised, place, positive)
    order = np.lexsort((pairs[1], -top, pairs[0]))
    ranked_day = pairs[0][order]
    rank = np.arange(order.size) - np.searchsorted(ranked_day, ranked_day, side="left")
    found = compromised[order] & (rank < k)
    return float(found.sum() / k / (day.max() + 1))


def realised_cost(
    policy: CostPolicy, *, labels: ArrayLike, amounts: ArrayLike, declined: ArrayLike, stepped_up: ArrayLike
) -> NDArray[np.float64]:
    """What each decision cost now that its truth is known, in the unit of the amounts. Shape (n,).

    A stepped-up bad subject costs its expectation: the share that a step-up does not catch gets through.
    """
    bad, amount = np.asarray(labels, dtype=bool), np.asarray(amounts, dtype=np.float64)
    decline, step_up = np.asarray(declined, dtype=bool), np.asarray(stepped_up, dtype=bool)
    loss = np.where(bad, amount + policy.loss_overhead, 0.0)
    after_step_up = policy.step_up_cost + (1 - policy.step_up_catches) * loss
    refused = np.where(bad, 0.0, policy.decline_cost + policy.decline_cost_share * amount)
    return np.where(decline, refused, np.where(step_up, after_step_up, loss))


def saved(
    policy: CostPolicy, *, labels: ArrayLike, amounts: ArrayLike, declined: ArrayLike, stepped_up: ArrayLike
) -> NDArray[np.float64]:
    """What each decision saved against approving it, in the unit of the amounts; below 0 where it cost. Shape (n,)."""
    nobody = np.zeros(np.shape(labels), dtype=bool)
    approved = realised_cost(policy, labels=labels, amounts=amounts, declined=nobody, stepped_up=nobody)
    return approved - realised_cost(policy, labels=labels, amounts=amounts, declined=declined, stepped_up=stepped_up)


def _pair(labels: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    positive, score = np.asarray(labels, dtype=bool), np.asarray(scores, dtype=np.float64)
    if positive.shape != score.shape:
        raise ValueError(f"{positive.size} labels for {score.size} scores")
    if np.isnan(score).any():
        raise ValueError("a score is NaN")
    return positive, score
