"""Messages as gRPC sends them: a byte that says whether it is compressed, four with its length, then the message."""

from __future__ import annotations

import zlib

from flywheel.adapters.grpc_server.status import CallFailed, Status

PREFIX_BYTES = 5


def prefixed(message: bytes) -> bytes:
    """The message, uncompressed, with its prefix."""
    return b"\x00" + len(message).to_bytes(4, "big") + message


def declared_bytes(begin: bytes | bytearray, limit: int) -> int:
    """Length of the message by its prefix. Raises CallFailed when it is longer than allowed."""
    size = int.from_bytes(begin[1:PREFIX_BYTES], "big")
    if size > limit:
        raise CallFailed(Status.RESOURCE_EXHAUSTED, f"a message of {size} bytes is longer than {limit}")
    return size


def plain(body: bytes, compressed: int, limit: int, *, is_gzip: bool) -> bytes:
    """The message behind a prefix. Raises CallFailed when it is compressed otherwise than said, or too long."""
    if compressed == 0:
        return body
    if compressed != 1 or not is_gzip:
        raise CallFailed(Status.INTERNAL, "a message is marked as compressed, and no encoding is named")
    unpacking = zlib.decompressobj(wbits=31)
    try:
        message = unpacking.decompress(body, limit + 1)
    except zlib.error as error:
        raise CallFailed(Status.INTERNAL, "a message is not compressed by gzip") from error
    if len(message) > limit:
        raise CallFailed(Status.RESOURCE_EXHAUSTED, f"a message is longer than {limit} bytes when it is unpacked")
    if not unpacking.eof:
        raise CallFailed(Status.INTERNAL, "a compressed message is cut off")
    return message


class Messages:
    """Cuts a stream of bytes into messages, each unpacked when it is asked for and not before."""

    def __init__(self, limit: int, *, is_gzip: bool) -> None:
        self._limit = limit
        self._is_gzip = is_gzip
        self._kept = bytearray()

    @property
    def kept_bytes(self) -> int:
        """What came and was not taken, as it came."""
        return len(self._kept)

    def feed(self, data: bytes) -> None:
        """Keeps bytes of the stream."""
        self._kept += data

    def take(self) -> tuple[bytes, int] | None:
        """The next message and the bytes it took, None until it is whole. Raises CallFailed as `plain` does."""
        kept = self._kept
        if len(kept) < PREFIX_BYTES:
            return None
        stop = declared_bytes(kept, self._limit) + PREFIX_BYTES
        if len(kept) < stop:
            return None
        body, compressed = bytes(kept[PREFIX_BYTES:stop]), kept[0]
        del kept[:stop]
        return plain(body, compressed, self._limit, is_gzip=self._is_gzip), stop

    def clear(self) -> int:
        """Drops what was kept; how many bytes that were."""
        dropped, self._kept = len(self._kept), bytearray()
        return dropped
