"""Files that appear whole or not at all, whenever the process dies or the power goes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_NEW = ".new"
LEFT_BEHIND = f".*{_NEW}"
"""Pattern of the names of files that a killed writer did not finish."""


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write to; it takes the place of `path` at the end of the block, unless that raises."""
    beside = path.with_name(f".{path.name}{_NEW}")
    with beside.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)
    sync(path.parent)


def write(path: Path, content: bytes) -> None:
    """The file has this content afterwards, whatever it had before."""
    with replacing(path) as file:
        file.write(content)


def sync(directory: Path) -> None:
    """Names in the directory are on disk afterwards."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
