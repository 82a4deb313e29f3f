"""What a state holds by position, and which bytes are refused."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from flywheel.kernel.plan import FIXED_CELLS, view_of
from flywheel.kernel.rows import MARK, TIE, TIME
from flywheel.kernel.state import Change, EntityState, ForeignState, apply, mark_of
from tests.wide_declaration import BUYER, FEATURES

VIEW = view_of("shop_buyer_tiles", BUYER, FEATURES)


@given(
    st.dictionaries(st.integers(0, 4), st.integers(0, 4)),
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=8),
)
def test_events_before_the_position_of_their_partition_are_held(
    positions: dict[int, int], events: list[tuple[int, int]]
) -> None:
    state = EntityState.empty(VIEW)
    reached = {partition: mark_of(partition, offset) for partition, offset in positions.items()}
    (state,), _ = apply(VIEW, [state], [Change(state.raw, reached)])
    marks = np.array([mark_of(partition, offset) for partition, offset in events], np.int64)
    assert state.holds(marks).tolist() == [offset < positions.get(partition, 0) for partition, offset in events]


def packed() -> bytes:
    row = np.zeros((1, VIEW.row_cells), np.int64)
    row[0, TIME], row[0, TIE], row[0, MARK] = 10**15, 7, 1
    row[0, FIXED_CELLS:] = 5
    (state,), _ = apply(VIEW, [EntityState.empty(VIEW)], [Change(row, {0: 2})])
    return state.pack(VIEW)


def signed(content: bytes) -> bytes:
    return content + struct.pack("<Q", xxhash.xxh64_intdigest(content))


def test_a_state_is_read_back() -> None:
    assert EntityState.unpack(VIEW, packed()).pack(VIEW) == packed()


@pytest.mark.parametrize("place", [50, 400, -9, -1])
def test_a_changed_byte_is_noticed(place: int) -> None:
    changed = bytearray(packed())
    changed[place] ^= 1
    with pytest.raises(ForeignState, match="damaged"):
        EntityState.unpack(VIEW, bytes(changed))


def test_bytes_that_are_missing_or_too_many_are_refused() -> None:
    content = packed()[:-8]
    with pytest.raises(ForeignState, match="cut off"):
        EntityState.unpack(VIEW, signed(content[:-8]))
    with pytest.raises(ForeignState, match="1 words more"):
        EntityState.unpack(VIEW, signed(content + bytes(8)))


@pytest.mark.parametrize("length", [-1, 65, 2**62])
def test_a_sketch_of_an_impossible_length_is_refused(length: int) -> None:
    content = packed()[:-8]
    # The last tile's only distinct value comes last, and before it how long its sketch is.
    assert np.frombuffer(content[-16:-8], "<i8").tolist() == [1]
    with pytest.raises(ForeignState, match="impossible length"):
        EntityState.unpack(VIEW, signed(content[:-16] + struct.pack("<q", length) + content[-8:]))
