"""Calls that are repeated: whole in one read, all with the same header block. Under overload nearly all are."""

from __future__ import annotations

from typing import NamedTuple

from flywheel.adapters.grpc_server.frames import END_HEADERS, END_STREAM, FRAME_BYTES, HEAD, HEAD_BYTES, Kind

_STREAM_AT = 5
_DATA = int(Kind.DATA)
_unpack = HEAD.unpack_from


class Repeats(NamedTuple):
    """The calls that were found, one behind the other."""

    stream_ids: list[int]
    stop: int
    """Where the first thing begins that is something else."""
    message_bytes: int
    """Of their DATA frames together."""


def repeats(data: bytes, at: int, block: bytes, *, after_id: int, last_id: int) -> Repeats:
    """The calls from `data[at]` on that begin with this block and have their message in one DATA frame.

    Their streams rise from above `after_id` to `last_id` at most; what breaks that or any other rule is left alone.
    """
    head = len(block).to_bytes(3, "big") + bytes((Kind.HEADERS, END_HEADERS))
    end, size, found, message_bytes = len(data), HEAD_BYTES + len(block), [], 0
    while True:
        body = at + size
        if body + HEAD_BYTES > end or data[at : at + _STREAM_AT] != head or data[at + HEAD_BYTES : body] != block:
            break
        stream_id = int.from_bytes(data[at + _STREAM_AT : at + HEAD_BYTES], "big")
        high, low, kind, flags, of_id = _unpack(data, body)
        length = high << 8 | low
        stop = body + HEAD_BYTES + length
        if kind != _DATA or flags != END_STREAM or of_id != stream_id or not 0 < length <= FRAME_BYTES or stop > end:
            break
        if not after_id < stream_id <= last_id or not stream_id & 1:
            break
        found.append(stream_id)
        after_id, at, message_bytes = stream_id, stop, message_bytes + length
    return Repeats(found, at, message_bytes)
