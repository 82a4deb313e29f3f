"""Selecting what a ranking shows: order, ties, chance that can be drawn again, and honest propensities."""

from __future__ import annotations

from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.kernel.ranking import EpsilonGreedy, Ranking, Softmax, Ties
from flywheel.kernel.selection import select, uniforms

EXPLORING = (
    Ranking("item_id", exploration=EpsilonGreedy(0.3)),
    Ranking("item_id", exploration=EpsilonGreedy(0.3), ties=Ties.SHUFFLED),
    Ranking("item_id", exploration=Softmax(0.2)),
    Ranking("item_id", ties=Ties.SHUFFLED),
)
SCORES = np.array([0.5, 0.9, 0.5, 0.1])


def test_without_exploration_the_best_are_shown_and_equals_stand_as_given() -> None:
    chosen = select(Ranking("item_id"), SCORES, 3, "any")
    assert chosen.places.tolist() == [1, 0, 2]
    assert chosen.propensities.tolist() == [1, 1, 1]


@pytest.mark.parametrize("ranking", EXPLORING)
def test_the_same_seed_gives_the_same_list_and_another_seed_another(ranking: Ranking) -> None:
    lists = [tuple(select(ranking, SCORES, 4, f"seed-{n % 40}").places) for n in range(80)]
    assert lists[:40] == lists[40:]
    assert len(set(lists)) > 1


@pytest.mark.parametrize("ranking", EXPLORING)
def test_lists_come_as_often_as_their_propensities_say(ranking: Ranking) -> None:
    number = 20_000
    seen: Counter[tuple[int, ...]] = Counter()
    said = {}
    for draw in range(number):
        chosen = select(ranking, SCORES, 3, f"draw-{draw}")
        shown = tuple(chosen.places.tolist())
        seen[shown] += 1
        said[shown] = float(np.prod(chosen.propensities))
    for shown in permutations(range(len(SCORES)), 3):
        share = said.get(shown, 0.0)
        assert seen[shown] / number == pytest.approx(share, abs=4 * np.sqrt(share / number) + 1e-3)
    if isinstance(ranking.exploration, Softmax):
        assert sum(said.values()) == pytest.approx(1)


@given(
    scores=st.lists(st.floats(0, 1), min_size=1, max_size=30),
    keep=st.integers(1, 40),
    ranking=st.sampled_from((Ranking("item_id"), *EXPLORING)),
)
def test_everybody_is_shown_at_most_once_and_propensities_are_probabilities(
    scores: list[float], keep: int, ranking: Ranking
) -> None:
    chosen = select(ranking, np.array(scores), keep, "s")
    assert len(set(chosen.places.tolist())) == len(chosen.places) == min(keep, len(scores))
    assert ((chosen.propensities > 0) & (chosen.propensities <= 1)).all()


def test_nobody_to_show_is_an_empty_list() -> None:
    for ranking in (Ranking("item_id"), *EXPLORING):
        assert select(ranking, np.empty(0), 5, "s").places.size == 0


def test_uniform_numbers_are_uniform_and_differ_by_seed() -> None:
    drawn = uniforms("a", 20_000)
    assert np.histogram(drawn, 10, (0, 1))[0] == pytest.approx(2_000, abs=200)
    assert not np.intersect1d(drawn, uniforms("b", 20_000)).size
