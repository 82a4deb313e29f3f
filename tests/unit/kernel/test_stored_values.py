"""Scalars are read as protobuf itself reads them, one by one or by the thousand; whatever is foreign is refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hypothesis import given
from hypothesis import strategies as st

from flywheel.kernel.stored_values import ScalarType, decode_scalars, encode_scalar

FIELDS = {
    ScalarType.INT32: (3, descriptor_pb2.FieldDescriptorProto.TYPE_INT32),
    ScalarType.INT64: (4, descriptor_pb2.FieldDescriptorProto.TYPE_INT64),
    ScalarType.DOUBLE: (5, descriptor_pb2.FieldDescriptorProto.TYPE_DOUBLE),
    ScalarType.FLOAT: (6, descriptor_pb2.FieldDescriptorProto.TYPE_FLOAT),
    ScalarType.BOOL: (7, descriptor_pb2.FieldDescriptorProto.TYPE_BOOL),
}
NULL_VAL = b"\x98\x01\x00"
VALUES: dict[ScalarType, st.SearchStrategy[Any]] = {
    ScalarType.DOUBLE: st.floats(),
    ScalarType.FLOAT: st.floats(width=32),
    ScalarType.INT64: st.integers(-(2**63), 2**63 - 1),
    ScalarType.INT32: st.integers(-(2**31), 2**31 - 1),
    ScalarType.BOOL: st.booleans(),
}
kinds = st.sampled_from(list(ScalarType))


def _protobuf_value() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="scalars.proto", package="tests", syntax="proto3")
    message = file.message_type.add(name="Value")
    message.oneof_decl.add(name="val")
    for kind, (number, wire_type) in FIELDS.items():
        message.field.add(name=kind.value, number=number, type=wire_type, label=1, oneof_index=0)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tests.Value"))


VALUE = _protobuf_value()


def by_protobuf(kind: ScalarType, value: Any) -> bytes:
    written: bytes = VALUE(**{kind.value: value}).SerializeToString()
    return written


@given(st.data(), kinds)
def test_what_protobuf_writes_is_read_in_order(data: st.DataObject, kind: ScalarType) -> None:
    values = data.draw(st.lists(VALUES[kind], min_size=1, max_size=40))
    read = decode_scalars(kind, [by_protobuf(kind, value) for value in values])
    assert read.refused is None
    np.testing.assert_array_equal(read.values, np.array(values, np.float64))


@given(st.data(), kinds)
def test_it_is_written_as_protobuf_writes_it(data: st.DataObject, kind: ScalarType) -> None:
    value = data.draw(VALUES[kind])
    if not math.isnan(value):
        assert encode_scalar(kind, value) == by_protobuf(kind, value)


@given(st.data(), kinds)
def test_absent_and_null_are_no_number_and_no_fault(data: st.DataObject, kind: ScalarType) -> None:
    gap = st.sampled_from([None, encode_scalar(kind, None), NULL_VAL])
    value = VALUES[kind].map(lambda value: by_protobuf(kind, value))
    messages = data.draw(st.lists(gap | value, min_size=1, max_size=30))
    read = decode_scalars(kind, messages)
    assert read.refused is None
    for message, number in zip(messages, read.values, strict=True):
        if message in (None, b"", NULL_VAL):
            assert math.isnan(number)
        else:
            np.testing.assert_equal(number, float(getattr(VALUE.FromString(message), kind.value)))


@given(st.data(), kinds)
def test_no_bytes_are_ever_read_as_a_number_that_protobuf_does_not_see(data: st.DataObject, kind: ScalarType) -> None:
    tags = st.sampled_from([b"", *(by_protobuf(each, 1)[:1] for each in ScalarType)])
    foreign = st.builds(lambda tag, rest: tag + rest, tags, st.binary(max_size=24))
    good = by_protobuf(kind, 1)
    messages = [good, data.draw(foreign), good, data.draw(foreign)]
    read = decode_scalars(kind, messages)
    for at, message in enumerate(messages):
        if not math.isnan(read.values[at]):
            assert float(getattr(VALUE.FromString(message), kind.value)) == read.values[at]
            assert VALUE.FromString(message).WhichOneof("val") == kind.value
    assert read.values[0] == read.values[2] == 1


@pytest.mark.parametrize("kind", list(ScalarType))
@pytest.mark.parametrize("other", list(ScalarType))
def test_another_type_is_refused_and_its_neighbours_are_not(kind: ScalarType, other: ScalarType) -> None:
    read = decode_scalars(kind, [by_protobuf(kind, 1), by_protobuf(other, 1), None])
    if kind is other:
        assert read.refused is None
    else:
        assert read.refused is not None
        assert read.refused.tolist() == [False, True, False]
        np.testing.assert_array_equal(read.values, [1, np.nan, np.nan])


def test_lengths_that_make_up_for_each_other_are_seen_through() -> None:
    double = by_protobuf(ScalarType.DOUBLE, 2.5)
    read = decode_scalars(ScalarType.DOUBLE, [double + double, b"", double])
    assert read.refused is not None
    assert read.refused.tolist() == [True, False, False]
    np.testing.assert_array_equal(read.values, [np.nan, np.nan, 2.5])


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (ScalarType.DOUBLE, b"\x29" + bytes(7)),
        (ScalarType.BOOL, b"\x38\x02"),
        (ScalarType.INT64, b"\x20"),
        (ScalarType.INT64, b"\x20\x80"),
        (ScalarType.INT64, b"\x20\x05\x00"),
        (ScalarType.INT64, b"\x20" + b"\xff" * 9 + b"\x02"),
        (ScalarType.INT64, b"\x20" + b"\xff" * 10),
        (ScalarType.INT32, b"\x18" + by_protobuf(ScalarType.INT64, 2**31)[1:]),
        (ScalarType.INT32, b"\x18" + by_protobuf(ScalarType.INT64, -(2**31) - 1)[1:]),
        (ScalarType.FLOAT, b"\x12\x03abc"),
    ],
)
def test_truncated_overlong_and_out_of_range_is_refused(kind: ScalarType, message: bytes) -> None:
    read = decode_scalars(kind, [message])
    assert read.refused is not None
    assert read.refused.tolist() == [True]
    assert math.isnan(read.values[0])
