"""Whom requests are about."""

from __future__ import annotations

from collections import Counter

import numpy as np

from loadtests.keys import COLD, rows_asked


def test_with_skew_entities_come_by_zipfs_law_whatever_rows_they_have() -> None:
    keys = [f"card-{row % 100}" for row in range(250)]
    rows = rows_asked(keys, 200_000, skew=1.0, cold_share=0.0, seed=1)
    counts = np.array(sorted(Counter(keys[row] for row in rows).values(), reverse=True))
    expected = 1 / np.arange(1, 101)
    expected *= len(rows) / expected.sum()
    assert len(counts) == 100
    np.testing.assert_allclose(counts[:20], expected[:20], rtol=0.1)
    # Which entity is the hottest is chance, not the first of the list.
    assert Counter(keys[row] for row in rows).most_common(1)[0][0] != "card-0"


def test_every_row_of_a_hot_entity_is_used() -> None:
    keys = ["a"] * 5 + ["b"]
    rows = rows_asked(keys, 10_000, skew=2.0, cold_share=0.0, seed=2)
    assert set(rows.tolist()) == set(range(6))


def test_without_skew_rows_are_as_likely_as_each_other() -> None:
    rows = rows_asked(["a"] * 9 + ["b"], 100_000, skew=0.0, cold_share=0.0, seed=1)
    assert abs((rows == 9).mean() - 0.1) < 0.005


def test_the_cold_are_as_many_as_asked() -> None:
    rows = rows_asked(["a", "b"], 100_000, skew=1.0, cold_share=0.2, seed=1)
    assert abs((rows == COLD).mean() - 0.2) < 0.01


def test_the_same_seed_asks_the_same() -> None:
    keys = [str(row) for row in range(50)]
    first, again, other = (rows_asked(keys, 100, skew=1.0, cold_share=0.1, seed=seed) for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()
