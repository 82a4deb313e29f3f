"""Event times are read as protobuf reads Timestamps, whether there are few or many."""

from __future__ import annotations

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from flywheel.kernel.stored_times import NO_TIME, decode_time, decode_times

MANY = 7
END_S = 253_402_300_799

seconds = st.integers(0, END_S) | st.integers(1_500_000_000, 1_900_000_000)
nanos = st.sampled_from([0, 1, 999, 1000, 999_999_999]) | st.integers(0, 999_999_999)
timestamps = st.builds(lambda s, n: Timestamp(seconds=s, nanos=n), seconds, nanos)


def micros(timestamp: Timestamp) -> int:
    return timestamp.seconds * 1_000_000 + timestamp.nanos // 1000


@given(st.lists(timestamps, max_size=20))
def test_what_protobuf_writes_is_read_in_order(written: list[Timestamp]) -> None:
    messages = [timestamp.SerializeToString() for timestamp in written]
    assert decode_times(messages).tolist() == [micros(timestamp) for timestamp in written]


@given(st.lists(st.none() | timestamps.map(Timestamp.SerializeToString) | st.binary(max_size=16), min_size=MANY))
def test_many_are_read_as_one_by_one(messages: list[bytes | None]) -> None:
    assert decode_times(messages).tolist() == [decode_time(message) for message in messages]


@given(st.binary(max_size=16) | st.builds(lambda text: b"\x08" + text, st.binary(max_size=14)))
def test_no_bytes_are_read_as_a_time_that_protobuf_does_not_see(message: bytes) -> None:
    time_us = decode_time(message)
    if time_us != NO_TIME:
        assert micros(Timestamp.FromString(message)) == time_us


@pytest.mark.parametrize(
    "message",
    [
        None,
        b"?",
        b"\x08",
        b"\x08\x80",
        b"\x08\x01\x10",
        b"\x10\x01\x08\x01",
        b"\x08\x01\x00",
        Timestamp(seconds=-1).SerializeToString(),
        Timestamp(seconds=END_S + 1).SerializeToString(),
        b"\x08\x01" + b"\x10" + Timestamp(seconds=1_000_000_000).SerializeToString()[1:],
    ],
)
def test_what_is_no_time_is_none_among_few_and_among_many(message: bytes | None) -> None:
    good = Timestamp(seconds=1_700_000_000, nanos=5000).SerializeToString()
    assert decode_times([message]).tolist() == [NO_TIME]
    assert decode_times([good] * MANY + [message]).tolist() == [1_700_000_000_000_005] * MANY + [NO_TIME]
