"""Streams that were answered before their client ended them: what it still sends on them is passed over."""

from __future__ import annotations

_KEPT = 4_096


class AnsweredEarly:
    """Such streams of one connection. The oldest of very many are as good as never known."""

    def __init__(self) -> None:
        self._is_told: dict[int, bool] = {}
        self._of_this_read: list[int] = []

    def __contains__(self, stream_id: int) -> bool:
        return stream_id in self._is_told

    def add(self, stream_id: int, *, is_told: bool = True) -> None:
        """The stream was answered; `is_told`: its client knows already that no more is wanted."""
        if len(self._is_told) >= _KEPT:
            del self._is_told[next(iter(self._is_told))]
        self._is_told[stream_id] = is_told
        if not is_told:
            self._of_this_read.append(stream_id)

    def discard(self, stream_id: int) -> None:
        """The client has ended the stream, or knows nothing more of it."""
        self._is_told.pop(stream_id, None)

    def to_be_told(self) -> list[int]:
        """Once after each read: the streams whose clients still send, and are not told yet to stop."""
        if not self._of_this_read:
            return []
        read, self._of_this_read = self._of_this_read, []
        return [stream_id for stream_id in read if not self._is_told.get(stream_id, True)]
