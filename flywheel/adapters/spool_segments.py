"""Files that records are appended to and read back from; a frame cut off by a crash ends its file.

A frame is key length, value length, CRC-32 of both, key, value.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from flywheel.adapters import durable_files

Record = tuple[bytes, bytes]
"""Key and value."""

_HEAD = struct.Struct("<III")
_SUFFIX = ".spool"
_SET_ASIDE = ".damaged"
_SLOTS = 256


def framed(records: Sequence[Record]) -> list[bytes]:
    """The frame of each record."""
    return [_HEAD.pack(len(key), len(value), _checksum(key, value)) + key + value for key, value in records]


class Chunk(NamedTuple):
    """Records read back. `sizes`: of their frames, in bytes. `damaged`: what follows them is no whole frame."""

    records: list[Record]
    sizes: list[int]
    damaged: bool


def parsed(data: bytes, *, whole: bool) -> Chunk:
    """The records in `data`; with `whole` nothing follows it in its file, so that half a frame at its end is damage."""
    records: list[Record] = []
    sizes: list[int] = []
    at = 0
    while at + _HEAD.size <= len(data):
        key_size, value_size, checksum = _HEAD.unpack_from(data, at)
        middle = at + _HEAD.size + key_size
        end = middle + value_size
        if end > len(data):
            break
        key, value = data[at + _HEAD.size : middle], data[middle:end]
        if _checksum(key, value) != checksum:
            return Chunk(records, sizes, damaged=True)
        records.append((key, value))
        sizes.append(end - at)
        at = end
    return Chunk(records, sizes, damaged=whole and (at < len(data) or not data))


class SegmentFile:
    """One file, written by one process to its end and read from anywhere."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = path.stat().st_size if path.exists() else 0
        self._handle: int | None = None

    def write(self, frames: Sequence[bytes], *, to_disk: bool) -> None:
        """Appends the frames; raises OSError, and the file then ends where it ended before, or in half a frame."""
        handle = self._handle = self._opened(to_disk) if self._handle is None else self._handle
        data = b"".join(frames)
        try:
            left = memoryview(data)
            while left:
                left = left[os.write(handle, left) :]
            if to_disk:
                os.fdatasync(handle)
        except Exception:
            with contextlib.suppress(OSError):
                os.ftruncate(handle, self.size)
            raise
        self.size += len(data)

    def _opened(self, to_disk: bool) -> int:
        handle = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND, 0o600)
        if to_disk:
            durable_files.sync(self.path.parent)
        return handle

    def seal(self) -> None:
        """Nothing more will be written."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def read(self, offset: int, end: int, about_bytes: int) -> Chunk:
        """Records between the two places: about so many bytes of them, at least one. Raises OSError."""
        with self.path.open("rb") as file:
            file.seek(offset)
            data = file.read(min(about_bytes, end - offset))
            chunk = parsed(data, whole=offset + len(data) >= end)
            if chunk.records or chunk.damaged:
                return chunk
            # One record is longer than that, or the file shorter than it was.
            return parsed(data + file.read(max(0, end - offset - len(data))), whole=True)

    def frames_after(self, offset: int) -> int:
        """How many whole frames follow the place, by their lengths; raises OSError."""
        with self.path.open("rb") as file:
            file.seek(offset)
            data = file.read()
        found = at = 0
        while at + _HEAD.size <= len(data):
            key_size, value_size, _ = _HEAD.unpack_from(data, at)
            at += _HEAD.size + key_size + value_size
            found += at <= len(data)
        return found

    def set_aside(self) -> None:
        """Leaves the file to people: no process takes it for records any more."""
        self.seal()
        with contextlib.suppress(OSError):
            self.path.rename(self.path.with_suffix(_SET_ASIDE))

    def remove(self) -> None:
        """Forgets the file; one that cannot be removed is sent once more by the next process."""
        self.seal()
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)


class Slot:
    """A directory that belongs to one living process; the kernel lets go of it however the process ends."""

    def __init__(self, directory: Path, lock: int) -> None:
        self.directory = directory
        self._lock = lock
        known = (*_segments(directory), *_segments(directory, _SET_ASIDE))
        self._next = 1 + max((int(path.stem) for path in known), default=0)

    @classmethod
    def claim(cls, root: Path) -> Slot:
        """The first directory below `root` that nobody has. Raises OSError."""
        root.mkdir(parents=True, exist_ok=True)
        for number in range(_SLOTS):
            if (lock := _locked(root / f"{number}.lock")) is not None:
                directory = root / str(number)
                directory.mkdir(exist_ok=True)
                durable_files.sync(root)
                return cls(directory, lock)
        raise OSError(f"all {_SLOTS} places below {root} are taken")

    def new(self) -> SegmentFile:
        """A file that is not there yet, after all others."""
        path = self.directory / f"{self._next:012d}{_SUFFIX}"
        self._next += 1
        return SegmentFile(path)

    def found(self) -> list[SegmentFile]:
        """What lies in the directory, oldest first."""
        return [SegmentFile(path) for path in _segments(self.directory)]

    def adopt(self) -> list[SegmentFile]:
        """The files of directories whose processes are gone, moved here."""
        adopted = []
        for other in sorted(self.directory.parent.iterdir()):
            if not other.is_dir() or other == self.directory or not _segments(other):
                continue
            lock = _locked(other.with_name(f"{other.name}.lock"))
            if lock is None:
                continue
            try:
                for path in _segments(other):
                    mine = self.new()
                    path.rename(mine.path)
                    adopted.append(SegmentFile(mine.path))
            finally:
                os.close(lock)
        return adopted

    def release(self) -> None:
        """The directory may be taken by another process."""
        os.close(self._lock)


def _checksum(key: bytes, value: bytes) -> int:
    return zlib.crc32(value, zlib.crc32(key))


def _segments(directory: Path, suffix: str = _SUFFIX) -> list[Path]:
    return sorted(path for path in directory.glob(f"*{suffix}") if path.stem.isdigit())


def _locked(path: Path) -> int | None:
    handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle
