"""Header blocks of HTTP/2 for a client that sends the same few headers, and reads the same few, very often."""

from __future__ import annotations

from collections.abc import Sequence

from hpack import Decoder, Encoder

Headers = Sequence[tuple[str, str]]


class RequestBlocks:
    """The block of a request's headers: whole the first time, and from then on a few bytes that refer to it."""

    def __init__(self, headers: Headers) -> None:
        encoder = Encoder()
        self.first = encoder.encode(headers)
        self.again = encoder.encode(headers)


class ResponseBlocks:
    """What response blocks say; a block that was seen, and means the same still, is not decoded again."""

    def __init__(self) -> None:
        self._decoder = Decoder()
        self._known: dict[bytes, dict[str, str]] = {}

    def read(self, block: bytes) -> dict[str, str]:
        """The headers in the block."""
        found = self._known.get(block)
        if found is None:
            entries = self._decoder.header_table.dynamic_entries
            before = (len(entries), entries[0] if entries else None)
            found = {_text(name): _text(value) for name, value in self._decoder.decode(block)}
            after = (len(entries), entries[0] if entries else None)
            if before[0] == after[0] and before[1] is after[1]:
                self._known[block] = found
            else:
                # The table has moved: what refers to it may mean something else.
                self._known.clear()
        return found


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")
