"""Lets the lake be written by many or rewritten by one: a lock on a file beside the archived events."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flywheel.kernel.ports import Unavailable

_LOOK_AGAIN_S = 0.05


@contextmanager
def writing(directory: Path) -> Iterator[None]:
    """While the lake of one use case is added to or read as a whole; waits as long as somebody rewrites it."""
    with _opened(directory) as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield


@contextmanager
def rewriting(directory: Path, *, timeout_s: float) -> Iterator[None]:
    """While archived rows are changed: nobody else writes. Raises Unavailable when somebody does all that time."""
    deadline_s = time.monotonic() + timeout_s
    with _opened(directory) as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline_s:
                    raise Unavailable(f"the lake in {directory} was being written for {timeout_s:g} s") from None
                time.sleep(_LOOK_AGAIN_S)
        yield


@contextmanager
def _opened(directory: Path) -> Iterator[int]:
    directory.mkdir(parents=True, exist_ok=True)
    # The lock ends with the file, also when the process is killed.
    with (directory / ".lock").open("w") as file:
        yield file.fileno()
