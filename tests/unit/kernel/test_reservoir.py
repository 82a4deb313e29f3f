"""A sample is bounded, fair, and the same for the same seed."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from flywheel.kernel.reservoir import Reservoir


def sampled(seed: int, size: int, number: int) -> list[int]:
    reservoir = Reservoir[int](size, Random(seed).randrange)
    for item in range(number):
        reservoir.offer(item)
    return reservoir.drain()


def test_fewer_items_than_there_is_room_for_are_all_kept() -> None:
    assert sampled(1, 5, 3) == [0, 1, 2]


def test_every_item_is_as_likely_as_any_other() -> None:
    kept = Counter(item for seed in range(4_000) for item in sampled(seed, 3, 12))
    assert sum(kept.values()) == 12_000
    # 4,000 draws of probability 1/4: six standard deviations are 164.
    assert all(abs(kept[item] - 1_000) < 164 for item in range(12))


def test_the_same_seed_gives_the_same_sample() -> None:
    assert sampled(7, 5, 100) == sampled(7, 5, 100)
    assert sampled(7, 5, 100) != sampled(8, 5, 100)


def test_a_drained_sample_begins_anew() -> None:
    reservoir = Reservoir[str](2, Random(1).randrange)
    for item in "abc":
        reservoir.offer(item)
    reservoir.drain()
    reservoir.offer("d")
    assert reservoir.drain() == ["d"]


def test_a_sample_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Reservoir[int](0, Random(1).randrange)
