"""Replies that all look alike, as one table: of hundreds of hashes no value becomes an object of its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

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
        self._first: _Reply | None = None
        self._compared = 0
        self.data = b""
        """All that was fed; once the table is whole, what follows on it."""

    def feed(self, data: bytes) -> StoredTable | None:
        """The table when this is the rest of it, None before. Raises NotAlike as soon as it is known to be none."""
        self.data += data
        first = self._first = self._first or _Reply.first_of(self.data)
        if first is None:
            return None
        whole = min(len(self.data) // first.size, self._replies)
        rows = np.frombuffer(self.data, np.uint8, whole * first.size).reshape(whole, first.size)
        first.compare(rows[self._compared :])
        self._compared = whole
        if whole < self._replies:
            # What has come of the next one might be all of it, if that is another.
            first.compare(np.frombuffer(self.data, np.uint8, offset=rows.size))
            return None
        self.data = self.data[rows.size :]
        return StoredTable([rows[:, span] for span in first.spans])


class _Reply:
    """A reply to compare others with."""

    def __init__(self, data: bytes, spans: Sequence[slice]) -> None:
        self.size = len(data)
        self.spans = spans
        """Where its values lie."""
        self._bytes = np.frombuffer(data, np.uint8)
        self._frame = np.full(self.size, 0xFF, np.uint8)
        for span in spans:
            self._frame[span] = 0

    @classmethod
    def first_of(cls, data: bytes) -> _Reply | None:
        """The first reply in the data, None while it has not come whole. Raises NotAlike when it is no such row."""
        spans: list[slice] = []
        fields, at = _number(data, 0, _ARRAY)
        if at and not fields:
            raise NotAlike
        while at and len(spans) < fields:
            length, begin = _number(data, at, _BULK)
            at = begin and begin + length + len(_LINE_END)
            spans.append(slice(begin, begin + length))
        if not 0 < at <= len(data):
            return None
        if any(not data.startswith(_LINE_END, span.stop) for span in spans):
            raise NotAlike
        return cls(data[:at], spans)

    def compare(self, others: NDArray[np.uint8]) -> None:
        """Raises NotAlike unless what is no value is the same in all, shape (n, size), or in the part of one."""
        size = others.shape[-1]
        if np.count_nonzero((others ^ self._bytes[:size]) & self._frame[:size]):
            raise NotAlike


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
