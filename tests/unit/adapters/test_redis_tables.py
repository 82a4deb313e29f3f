"""Replies that look alike come as a table, however they arrive; any other reply is noticed before it is waited for."""

from __future__ import annotations

import pytest

from flywheel.adapters.redis_tables import NotAlike, TableReader


def reply(*values: bytes | None) -> bytes:
    bulks = (b"$-1\r\n" if value is None else b"$%d\r\n%b\r\n" % (len(value), value) for value in values)
    return b"*%d\r\n" % len(values) + b"".join(bulks)


ROWS = [[b"ab", b"c\r\n"], [b"\r\n", b"$1\r"], [b"gh", b"ijk"]]
WHOLE = b"".join(reply(*row) for row in ROWS)


@pytest.mark.parametrize("cut", range(1, len(WHOLE)))
def test_a_table_comes_whole_wherever_it_is_cut(cut: int) -> None:
    reader = TableReader(len(ROWS))
    assert reader.feed(WHOLE[:cut]) is None
    table = reader.feed(WHOLE[cut:] + b"+OK\r\n")
    assert table is not None
    assert table.rows() == ROWS
    assert reader.data == b"+OK\r\n"


def test_a_table_comes_byte_by_byte() -> None:
    reader = TableReader(len(ROWS))
    tables = [reader.feed(WHOLE[at : at + 1]) for at in range(len(WHOLE))]
    assert tables[:-1] == [None] * (len(WHOLE) - 1)
    assert tables[-1] is not None
    assert tables[-1].rows() == ROWS


ABSENT = [reply(b"ab", None), b"-ERR not now\r\n", b":7\r\n", b"*-1\r\n", b"*0\r\n", b"*1\r\n$1\r\nabc"]
OTHERS = [*ABSENT, reply(b"a", b"cdef"), reply(b"ab"), reply(b"ab", b"cde", b"f")]


@pytest.mark.parametrize(("place", "other"), [*((0, each) for each in ABSENT), *((2, each) for each in OTHERS)])
def test_a_reply_of_another_make_is_noticed_though_nothing_follows_it(place: int, other: bytes) -> None:
    come = b"".join(reply(*row) for row in ROWS[:place]) + other
    reader = TableReader(place + 2)
    with pytest.raises(NotAlike):
        reader.feed(come)
    assert reader.data == come


def test_a_reply_is_noticed_where_it_begins_to_be_another() -> None:
    reader = TableReader(2)
    assert reader.feed(reply(b"ab") + b"*1\r\n$") is None
    with pytest.raises(NotAlike):
        reader.feed(b"3")
    assert reader.data.endswith(b"*1\r\n$3")
