"""Header blocks of requests, decoded (RFC 7541). A block that only points into the table is decoded once while the
table stays as it is: after a client's first requests that is nearly every block."""

from __future__ import annotations

from functools import lru_cache
from typing import TypeVar

from hpack.exceptions import HPACKError
from hpack.huffman_table import decode_huffman
from hpack.table import HeaderTable

from flywheel.adapters.grpc_server.frames import ConnectionFault, ErrorCode
from flywheel.adapters.grpc_server.heads import Field, Head, head_of, too_long

Key = TypeVar("Key")

_STATIC: tuple[Field, ...] = tuple(
    (name.decode("latin-1"), value.decode("latin-1")) for name, value in HeaderTable.STATIC_TABLE
)
_STATIC_FIELDS = len(_STATIC)
_TABLE_BYTES = 4_096
_ENTRY_OVERHEAD_BYTES = 32
_CACHED_HEADS = 32
_CACHED_BYTES = 2_048
_CACHED_TEXT_BYTES = 128
_LARGEST_SHIFT = 21


class HeaderBlocks:
    """The decoding side of one connection's header compression."""

    def __init__(self, list_bytes: int) -> None:
        self._list_bytes = list_bytes
        self._entries: list[Field] = []
        self._size = 0
        self._capacity = _TABLE_BYTES
        self._heads: dict[bytes, Head] = {}
        self._known: dict[tuple[Field, ...], Head] = {}

    def head(self, block: bytes) -> Head:
        """The request that the block begins. Raises ConnectionFault when it cannot be decoded: the table is lost."""
        found = self._heads.get(block)
        if found is not None:
            return found
        try:
            fields, size, is_lasting = self._decoded(block)
        except (IndexError, HPACKError) as error:
            raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, "a header block cannot be decoded") from error
        if size > self._list_bytes:
            return too_long()
        if size > _CACHED_BYTES:
            return self._head_of(fields, {})
        head = self._head_of(fields, self._known)
        if is_lasting:
            _keep(self._heads, block, head)
        return head

    def is_lasting(self, block: bytes) -> bool:
        """Whether the same block would mean the same again, and change nothing, if it came next."""
        return block in self._heads

    @staticmethod
    def _head_of(fields: list[Field], known: dict[tuple[Field, ...], Head]) -> Head:
        """The fields' head. Callers that count a deadline down differ in nothing else, so that is put in afterwards."""
        timeout = None
        for place, (name, value) in enumerate(fields):
            if name == "grpc-timeout":
                timeout = value
                del fields[place]
                break
        key = tuple(fields)
        head = known.get(key)
        if head is None:
            head = head_of(fields)
            _keep(known, key, head)
        return head if timeout is None else head.within(timeout)

    def _decoded(self, block: bytes) -> tuple[list[Field], int, bool]:
        """As many of the fields as are allowed, the size of all, and whether the table alone says what they are."""
        fields: list[Field] = []
        is_lasting = True
        at, end, size = 0, len(block), 0
        while at < end:
            byte = block[at]
            if byte & 0x80:
                index = byte & 0x7F
                if index == 0x7F:
                    index, at = _integer(block, at, 0x7F)
                else:
                    at += 1
                field = _STATIC[index - 1] if 0 < index <= _STATIC_FIELDS else self._field(index)
            elif byte & 0xE0 == 0x20:
                at = self._resize(block, at, is_first=not size)
                is_lasting = False
                continue
            else:
                field, at = self._literal(block, at, byte)
                is_lasting = False
            size += len(field[0]) + len(field[1]) + _ENTRY_OVERHEAD_BYTES
            if size <= self._list_bytes:
                fields.append(field)
        return fields, size, is_lasting

    def _field(self, index: int) -> Field:
        place = index - _STATIC_FIELDS
        if 0 < place <= len(self._entries):
            return self._entries[-place]
        if 0 < index <= _STATIC_FIELDS:
            return _STATIC[index - 1]
        raise IndexError

    def _literal(self, block: bytes, at: int, byte: int) -> tuple[Field, int]:
        is_indexed = bool(byte & 0x40)
        index, at = _integer(block, at, 0x3F if is_indexed else 0x0F)
        if index:
            name = self._field(index)[0]
        else:
            name, at = _text(block, at)
        value, at = _text(block, at)
        field = (name, value)
        if is_indexed:
            self._remember(field)
        return field, at

    def _remember(self, field: Field) -> None:
        self._heads.clear()
        self._entries.append(field)
        self._size += len(field[0]) + len(field[1]) + _ENTRY_OVERHEAD_BYTES
        self._evict()

    def _resize(self, block: bytes, at: int, *, is_first: bool) -> int:
        capacity, at = _integer(block, at, 0x1F)
        if capacity > _TABLE_BYTES or not is_first:
            raise IndexError
        self._heads.clear()
        self._capacity = capacity
        self._evict()
        return at

    def _evict(self) -> None:
        while self._size > self._capacity:
            name, value = self._entries.pop(0)
            self._size -= len(name) + len(value) + _ENTRY_OVERHEAD_BYTES


def _keep(cache: dict[Key, Head], key: Key, head: Head) -> None:
    if len(cache) >= _CACHED_HEADS:
        cache.clear()
    cache[key] = head


def _integer(block: bytes, at: int, mask: int) -> tuple[int, int]:
    value = block[at] & mask
    at += 1
    if value < mask:
        return value, at
    shift = 0
    while True:
        byte = block[at]
        at += 1
        value += (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > _LARGEST_SHIFT:
            raise IndexError


def _text(block: bytes, at: int) -> tuple[str, int]:
    is_huffman = block[at] & 0x80
    size, at = _integer(block, at, 0x7F)
    stop = at + size
    if stop > len(block):
        raise IndexError
    raw = block[at:stop]
    if not is_huffman:
        return raw.decode("latin-1"), stop
    return (_known(raw) if size <= _CACHED_TEXT_BYTES else _unpacked(raw)), stop


@lru_cache(maxsize=512)
def _known(raw: bytes) -> str:
    return _unpacked(raw)


def _unpacked(raw: bytes) -> str:
    return decode_huffman(raw).decode("latin-1")
