"""Sketches against sets and bits looked at one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from flywheel.kernel import sketch as sketch_module
from flywheel.kernel.sketch import Sketches, are_sketches, cardinality, sketch_of, union, united

_hashes = st.integers(-(2**63), 2**63 - 1)
# Many that share a register, and those at the ends of what a register can say.
_crowded = st.builds(lambda top, low: (top << 54 | low) - 2**63, st.integers(0, 3), st.integers(0, 2**54 - 1))
_columns = st.lists(st.lists(st.one_of(_hashes, _crowded), max_size=6), max_size=12)


@pytest.fixture(autouse=True)
def _sets_of_three(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sketch_module, "EXACT_LIMIT", 3)


def column(values: list[list[int]]) -> Sketches:
    return Sketches.of([sketch_of(np.array(hashes, np.int64)) for hashes in values])


def registers(hashes: set[int]) -> list[int]:
    """For each register, one more than the most leading zeros of the last 54 bits of the hashes that it is for."""
    found = [0] * 1024
    for value in hashes:
        bits = value % 2**64
        place, rest = bits >> 54, bits % 2**54
        found[place] = max(found[place], 55 - rest.bit_length())
    return found


def wanted(hashes: set[int]) -> NDArray[np.int64]:
    if len(hashes) <= 3:
        return np.array(sorted(hashes), np.int64)
    return np.array(registers(hashes), np.uint8).view(np.int64)


@given(_columns)
def test_a_union_is_the_sketch_of_all_values_whichever_way_they_come(values: list[list[int]]) -> None:
    together = {value for hashes in values for value in hashes}
    assert union(list(column(values))).tolist() == wanted(together).tolist()
    assert sketch_of(np.array([*together, *together], np.int64)).tolist() == wanted(together).tolist()


@given(_columns, st.data())
def test_neighbours_are_read_as_one(values: list[list[int]], data: st.DataObject) -> None:
    high = data.draw(st.integers(0, len(values)))
    low = data.draw(st.integers(0, high))
    exact, held = column(values).parts(low, high)
    inside = {value for hashes in values[low:high] for value in hashes}
    assert united([exact], [held]).tolist() == wanted(inside).tolist()


@given(_columns, st.data())
def test_sketches_end_to_end_are_a_list_of_them(values: list[list[int]], data: st.DataObject) -> None:
    high = data.draw(st.integers(0, len(values)))
    low = data.draw(st.integers(0, high))
    order = np.array(data.draw(st.permutations(range(len(values)))), np.intp)
    each = [sketch_of(np.array(hashes, np.int64)).tolist() for hashes in values]
    whole = column(values)
    assert len(whole) == len(each)
    assert [sketch.tolist() for sketch in whole] == each
    assert [sketch.tolist() for sketch in whole.between(low, high)] == each[low:high]
    assert [sketch.tolist() for sketch in whole.taken(order)] == [each[place] for place in order.tolist()]


@pytest.mark.parametrize("length", [-1, 4, 127, 129])
def test_no_sketch_has_another_length(length: int) -> None:
    assert are_sketches(np.array([0, 3, 128]))
    assert not are_sketches(np.array([0, length, 3]))


@pytest.mark.parametrize("number", [10, 1_000, 30_000])
def test_an_estimate_is_near(number: int) -> None:
    hashes = np.random.default_rng(number).integers(-(2**63), 2**63 - 1, number)
    assert cardinality(sketch_of(hashes)) == pytest.approx(number, rel=0.1)
