"""The slots of a Redis Cluster: which of them a key falls into, and which node has it."""

from __future__ import annotations

import binascii
import functools
from collections.abc import Sequence
from itertools import count
from typing import Any, NamedTuple

from flywheel.adapters.redis_address import Node

SLOTS = 16_384


def slot_of(key: bytes) -> int:
    """The slot of a key: of what stands between its first braces, if there is anything, else of the whole key.

    >>> slot_of(b"123456789"), slot_of(b"{user}.name") == slot_of(b"user") == slot_of(b"{user}.age")
    (12739, True)
    """
    begin = key.find(b"{")
    if begin >= 0:
        end = key.find(b"}", begin + 1)
        if end > begin + 1:
            key = key[begin + 1 : end]
    return binascii.crc_hqx(key, 0) % SLOTS


@functools.cache
def tags() -> Sequence[str]:
    """By slot, what is to stand in braces so that a key falls into it: the smallest number that does so.

    >>> slot_of(b"{%b}:counted" % tags()[12739].encode())
    12739
    """
    found: dict[int, str] = {}
    numbers = count()
    while len(found) < SLOTS:
        tag = str(next(numbers))
        found.setdefault(binascii.crc_hqx(tag.encode(), 0) % SLOTS, tag)
    return [found[slot] for slot in range(SLOTS)]


class Redirect(NamedTuple):
    """Where a node sends those who ask it for a key that it does not have."""

    slot: int
    node: Node
    is_asked: bool
    """Whether only this once, while the slot is being moved."""


def redirect_of(refusal: str, asked: Node) -> Redirect | None:
    """What a node's refusal says of where to ask instead; None when it says something else.

    >>> redirect_of("MOVED 3999 127.0.0.1:6381", Node("127.0.0.1", 6379))
    Redirect(slot=3999, node=Node(host='127.0.0.1', port=6381), is_asked=False)
    """
    kind, _, rest = refusal.partition(" ")
    if kind not in ("MOVED", "ASK"):
        return None
    slot, _, address = rest.partition(" ")
    host, _, port = address.rpartition(":")
    return Redirect(int(slot), _known(host, int(port), asked), kind == "ASK")


class SlotTable:
    """Which node has which slot, as far as that was told."""

    def __init__(self, told: Sequence[Any], asked: Node) -> None:
        """From the reply of `asked` to CLUSTER SLOTS: [first slot, last slot, [host, port, …], replicas …] each."""
        self._nodes: list[Node | None] = [None] * SLOTS
        for first, last, (host, port, *_), *_ in told:
            node = _known(host.decode() if isinstance(host, bytes) else host or "", int(port), asked)
            self._nodes[first : last + 1] = [node] * (last + 1 - first)

    @property
    def nodes(self) -> list[Node]:
        """All that have a slot, each once, always in the same order."""
        return sorted({node for node in self._nodes if node is not None})

    def node(self, slot: int) -> Node | None:
        """Who has this slot; None when nobody has."""
        return self._nodes[slot]

    def move(self, slot: int, node: Node) -> None:
        """A slot is on another node by now."""
        self._nodes[slot] = node


def _known(host: str, port: int, asked: Node) -> Node:
    """A node that does not know its own host has the one by which it was asked."""
    if host in ("", "?"):
        host = asked.host
    return Node(f"[{host}]" if ":" in host and not host.startswith("[") else host, port)
