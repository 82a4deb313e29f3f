"""Who is asked about: entities as often as in the world, some more than others, and some that nobody knows."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

COLD = -1
"""In the place of a row: an entity nobody has heard of."""


def rows_asked(keys: Sequence[Hashable], count: int, *, skew: float, cold_share: float, seed: int) -> NDArray[np.int64]:
    """For each of `count` requests the row it is made of, or `COLD`.

    `keys`: the entity of each row. Without skew rows are as likely as each other, so that entities come as often as
    they are there; with it the entity of rank r comes in proportion to r to the power of minus skew (Zipf), whichever
    entity chance gave that rank, and then any of its rows.
    """
    rng = np.random.default_rng(seed)
    rows = _zipf(keys, count, skew, rng) if skew else rng.integers(0, len(keys), count)
    return np.where(rng.random(count) < cold_share, COLD, rows)


def _zipf(keys: Sequence[Hashable], count: int, skew: float, rng: np.random.Generator) -> NDArray[np.int64]:
    rows_of: dict[Hashable, list[int]] = {}
    for row, key in enumerate(keys):
        rows_of.setdefault(key, []).append(row)
    ranked = [list(rows_of.values())[place] for place in rng.permutation(len(rows_of))]
    weight = np.arange(1, len(ranked) + 1, dtype=np.float64) ** -skew
    sizes = np.array([len(rows) for rows in ranked])
    first = np.concatenate(([0], np.cumsum(sizes)[:-1]))
    entity = rng.choice(len(ranked), count, p=weight / weight.sum())
    nth = (rng.random(count) * sizes[entity]).astype(np.int64)
    flat = np.array([row for rows in ranked for row in rows], np.int64)
    rows: NDArray[np.int64] = flat[first[entity] + nth]
    return rows
