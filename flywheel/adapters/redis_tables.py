"""Replies that all look alike, as one table: of hundreds of hashes no value becomes an object of its own."""

from __future__ import annotations

import numpy as np

from flywheel.kernel.stored_table import StoredTable

_ARRAY, _BULK = b"*"[0], b"$"[0]
_LINE_END = b"\r\n"


class NotAlike(Exception):
    """A reply is another than the first, or that one is no array of values that are all there."""


class TableReader:
    """Takes the replies to commands that ask for the same fields of one hash each.

    The first reply shows how all must look: what is no value in it, lengths above all, is the same in each.
    """

    def __init__(self, replies: int) -> None:
        self._replies = replies
        self._spans: list[slice] = []
        self._row_bytes = 0
        self._compared_bytes = 0
        self.data = b""
        """All that was fed; once the table is whole, what follows on it."""

    def feed(self, data: bytes) -> StoredTable | None:
        """The table when this is the rest of it, None before. Raises NotAlike as soon as it is known to be none."""
        self.data += data
        if not self._row_bytes:
            self._spans, self._row_bytes = _first_reply(self.data)
            if not self._row_bytes:
                return None
        self._compare()
        size = self._replies * self._row_bytes
        if len(self.data) < size:
            return None
        rows = np.frombuffer(self.data, np.uint8, size).reshape(self._replies, self._row_bytes)
        self.data = self.data[size:]
        return StoredTable([rows[:, span] for span in self._spans])

    def _compare(self) -> None:
        """Compares what has come with the first reply, the part of a reply at the end as well: it might be another."""
        begin, end = self._compared_bytes, min(len(self.data), self._replies * self._row_bytes)
        first = np.frombuffer(self.data, np.uint8, self._row_bytes)
        frame = np.ones(self._row_bytes, np.bool_)
        for span in self._spans:
            frame[span] = False
        come = np.frombuffer(self.data, np.uint8, end - begin, begin)
        if np.count_nonzero((come != np.resize(first, len(come))) & np.resize(frame, len(come))):
            raise NotAlike
        self._compared_bytes = end - end % self._row_bytes


def _first_reply(data: bytes) -> tuple[list[slice], int]:
    """Where its values lie and its size in bytes; 0 while it has not come whole."""
    spans: list[slice] = []
    fields, at = _number(data, 0, _ARRAY)
    if at and not fields:
        raise NotAlike
    while at and len(spans) < fields:
        length, begin = _number(data, at, _BULK)
        at = begin and begin + length + len(_LINE_END)
        spans.append(slice(begin, begin + length))
    return (spans, at) if at <= len(data) else ([], 0)


def _number(data: bytes, at: int, kind: int) -> tuple[int, int]:
    """The number in the line that begins there, and where that ends; 0 while it has not come whole."""
    end = data.find(_LINE_END, at)
    if at < len(data) and data[at] != kind:
        raise NotAlike
    if end < 0:
        return 0, 0
    number = data[at + 1 : end]
    if not number.isdigit():
        # -1, which stands for what is absent, for one.
        raise NotAlike
    return int(number), end + len(_LINE_END)
