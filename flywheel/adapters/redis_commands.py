"""Commands to Redis as they go over the wire."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import hiredis

Argument = bytes | str | int | float


class Commands(NamedTuple):
    """Commands that leave together."""

    payload: bytes
    replies: int
    """How many replies they are owed."""
    are_alike: bool = False
    """Whether each asks for the same fields of another hash, so that their replies may be read as one table."""
    apart: Sequence[bytes] = ()
    """Each by itself, for a store that keeps its keys in several places."""


def pack(*commands: Sequence[Argument]) -> Commands:
    """These commands, each a name and its arguments, for one round trip.

    >>> pack(("GET", "a"), ("PING",)).payload
    b'*2\\r\\n$3\\r\\nGET\\r\\n$1\\r\\na\\r\\n*1\\r\\n$4\\r\\nPING\\r\\n'
    """
    # Its annotations know commands of one word alone.
    return together([hiredis.pack_command(tuple(command)) for command in commands])  # type: ignore[arg-type]


def together(packed: Sequence[bytes], *, are_alike: bool = False) -> Commands:
    """Commands that are packed each by itself, for one round trip."""
    return Commands(b"".join(packed), len(packed), are_alike, packed)


class HashReads:
    """HMGETs of the same fields, of which only the key differs.

    >>> HashReads([b"f"]).of([b"key"]) == [pack(("HMGET", "key", "f")).payload]
    True
    """

    def __init__(self, fields: Sequence[bytes]) -> None:
        self._start = b"*%d\r\n$5\r\nHMGET\r\n$" % (len(fields) + 2)
        self._end = b"\r\n" + b"".join(b"$%d\r\n%b\r\n" % (len(field), field) for field in fields)

    def of(self, keys: Iterable[bytes]) -> list[bytes]:
        """One command for each hash."""
        start, end = self._start, self._end
        return [b"%b%d\r\n%b%b" % (start, len(key), key, end) for key in keys]
