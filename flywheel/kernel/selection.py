"""Selects what a ranking shows: the best, in order, and with which probability each stood where it stands.

Chance comes from a seed, so whoever knows from what it was made can draw a ranking again. A propensity is the
probability of the candidate at its position given those before it; the product of all is the probability of the whole
list.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from flywheel.kernel.features import Column
from flywheel.kernel.ranking import EpsilonGreedy, Ranking, Softmax, Ties

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX = (
    (np.uint64(30), np.uint64(0xBF58476D1CE4E5B9)),
    (np.uint64(27), np.uint64(0x94D049BB133111EB)),
)


class Selection(NamedTuple):
    """What is shown, best place first: where each candidate stood, and its propensity; both of shape (k,)."""

    places: NDArray[np.intp]
    propensities: Column


def select(ranking: Ranking, scores: Column, keep: int, seed: str) -> Selection:
    """Up to `keep` of the candidates with these finite scores, shape (n,); the same for the same seed.

    >>> select(Ranking("item_id"), np.array([0.2, 0.9, 0.2]), 2, "r1").places.tolist()
    [1, 0]
    """
    explores = ranking.exploration
    if isinstance(explores, Softmax):
        return _by_weight(scores / explores.temperature, keep, seed)
    if explores is None and ranking.ties is Ties.GIVEN:
        # Stable: of equal scores the one that was given first comes first.
        places = np.argsort(-scores, kind="stable")[:keep]
        return Selection(places, np.ones(len(places)))
    share = explores.share if isinstance(explores, EpsilonGreedy) else 0.0
    return _step_by_step(scores, keep, share, seed, shuffled=ranking.ties is Ties.SHUFFLED)


def uniforms(seed: str, count: int) -> Column:
    """Numbers above 0 and below 1, by SplitMix64 from the seed: the same in every version of everything.

    >>> uniforms("r1", 2).round(6).tolist()
    [0.649581, 0.73754]
    """
    start = np.uint64(int.from_bytes(blake2b(seed.encode(), digest_size=8).digest(), "little"))
    mixed = start + np.arange(1, count + 1, dtype=np.uint64) * _GAMMA
    for shift, factor in _MIX:
        mixed = (mixed ^ (mixed >> shift)) * factor
    mixed ^= mixed >> np.uint64(31)
    return ((mixed >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


def _by_weight(logits: Column, keep: int, seed: str) -> Selection:
    """Plackett and Luce's model, drawn by adding Gumbel noise and sorting."""
    noise = -np.log(-np.log(uniforms(seed, len(logits))))
    order = np.argsort(-(logits + noise), kind="stable")
    sorted_logits = logits[order]
    left = np.logaddexp.accumulate(sorted_logits[::-1])[::-1]
    return Selection(order[:keep], np.exp(sorted_logits - left)[:keep])


def _step_by_step(scores: Column, keep: int, share: float, seed: str, *, shuffled: bool) -> Selection:
    """The best of those left, or with probability `share` any of them, position by position."""
    number, shown = len(scores), min(keep, len(scores))
    chance = uniforms(seed, number + 2 * shown)
    order = np.lexsort((chance[:number] if shuffled else np.arange(number), -scores))
    left, score_of = order.tolist(), scores.tolist()
    draws = chance[number:].tolist()
    places, propensities = [], []
    for explores, which in zip(draws[:shown], draws[shown:], strict=True):
        best = score_of[left[0]]
        at = int(which * len(left)) if explores < share else 0
        rivals = _rivals(left, score_of) if shuffled else 1
        is_best = score_of[left[at]] == best if shuffled else at == 0
        propensities.append((1 - share) / rivals * is_best + share / len(left))
        places.append(left.pop(at))
    return Selection(np.array(places, np.intp), np.array(propensities))


def _rivals(left: list[int], score_of: list[float]) -> int:
    """How many of those left, best first, have the best score."""
    best = score_of[left[0]]
    return next((place for place, row in enumerate(left) if score_of[row] != best), len(left))
