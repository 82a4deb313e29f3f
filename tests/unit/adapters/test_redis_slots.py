"""Which slot a key falls into, which node has it, and where a node sends those who ask the wrong one."""

from __future__ import annotations

import pytest

from flywheel.adapters.redis_address import Node
from flywheel.adapters.redis_slots import SLOTS, Redirect, SlotTable, redirect_of, slot_of, tags

ASKED = Node("10.0.0.1", 7000)


@pytest.mark.parametrize(("key", "slot"), [(b"", 0), (b"123456789", 12739), (b"foo", 12182), (b"somekey", 11058)])
def test_known_keys_fall_into_known_slots(key: bytes, slot: int) -> None:
    assert slot_of(key) == slot


@pytest.mark.parametrize(
    ("key", "hashed"),
    [
        (b"{user1000}.following", b"user1000"),
        (b"{user1000}.followers", b"user1000"),
        (b"foo{{bar}}zap", b"{bar"),
        (b"foo{bar}{zap}", b"bar"),
    ],
)
def test_of_a_key_with_a_tag_only_that_counts(key: bytes, hashed: bytes) -> None:
    assert slot_of(key) == slot_of(hashed)


@pytest.mark.parametrize("key", [b"foo{}{bar}", b"foo{bar", b"foo}bar{"])
def test_of_a_key_without_a_tag_all_of_it_counts(key: bytes) -> None:
    assert slot_of(key) != slot_of(b"bar")
    assert slot_of(key) == slot_of(b"{" + key + b"}") or b"}" in key


def test_every_slot_has_a_tag_of_its_own() -> None:
    assert [slot_of(b"{%b}:anything" % tag.encode()) for tag in tags()] == list(range(SLOTS))
    assert max(map(len, tags())) <= 6


def test_the_table_tells_each_slots_node_and_none_of_what_nobody_has() -> None:
    told = [
        [0, 99, [b"10.0.0.2", 7001, b"id", []], [b"10.0.0.9", 7009, b"a replica"]],
        [200, SLOTS - 1, [b"", 7002, b"it does not know its own address"]],
        [100, 150, [None, 7003]],
    ]
    table = SlotTable(told, ASKED)
    assert [table.node(slot) for slot in (0, 99, 100, 150, 151, 200, SLOTS - 1)] == [
        Node("10.0.0.2", 7001),
        Node("10.0.0.2", 7001),
        Node("10.0.0.1", 7003),
        Node("10.0.0.1", 7003),
        None,
        Node("10.0.0.1", 7002),
        Node("10.0.0.1", 7002),
    ]
    assert table.nodes == [Node("10.0.0.1", 7002), Node("10.0.0.1", 7003), Node("10.0.0.2", 7001)]
    table.move(99, ASKED)
    assert (table.node(98), table.node(99)) == (Node("10.0.0.2", 7001), ASKED)


@pytest.mark.parametrize(
    ("refusal", "redirect"),
    [
        ("MOVED 3999 127.0.0.1:6381", Redirect(3999, Node("127.0.0.1", 6381), is_asked=False)),
        ("ASK 3999 127.0.0.1:6381", Redirect(3999, Node("127.0.0.1", 6381), is_asked=True)),
        ("MOVED 1 :6381", Redirect(1, Node("10.0.0.1", 6381), is_asked=False)),
        ("MOVED 1 ?:6381", Redirect(1, Node("10.0.0.1", 6381), is_asked=False)),
        ("MOVED 1 ::1:6381", Redirect(1, Node("[::1]", 6381), is_asked=False)),
        ("CLUSTERDOWN Hash slot not served", None),
        ("WRONGTYPE Operation against a key", None),
    ],
)
def test_a_refusal_says_where_to_ask_instead(refusal: str, redirect: Redirect | None) -> None:
    assert redirect_of(refusal, ASKED) == redirect
