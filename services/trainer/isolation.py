"""Runs work in a process of its own: what it loads is gone afterwards, and its crash is only its own."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Generic, TypeVar

_STOP_WITHIN_S = 5.0
_LEAVE_WITHIN_S = 0.5
"""For a process that has handed over its result, before it is told to stop."""
_ORPHANED = 3
_NICENESS = 10

T = TypeVar("T")


class WorkFailed(Exception):
    """The work raised, died or took too long; the message says which."""


class Interrupted(Exception):
    """Asked to stop before the work was done."""


class Isolated(Generic[T]):
    """`work(*arguments)` in a fresh process each time; arguments and result are pickled."""

    def __init__(self, work: Callable[..., T], *, timeout_s: float, stop: threading.Event) -> None:
        self._work = work
        self._timeout_s = timeout_s
        self._stop = stop

    def __call__(self, *arguments: object) -> T:
        """The result. Raises WorkFailed, or Interrupted when `stop` is set meanwhile."""
        # Spawned, not forked: the consumer's threads must not be copied in the middle of what they do.
        context = multiprocessing.get_context("spawn")
        receiving, sending = context.Pipe(duplex=False)
        process = context.Process(target=_deliver, args=(sending, self._work, arguments), daemon=True)
        process.start()
        sending.close()
        try:
            return self._await(receiving)
        except EOFError:
            process.join(_STOP_WITHIN_S)
            raise WorkFailed(f"the process died with exit code {process.exitcode}") from None
        finally:
            receiving.close()
            _end(process)

    def _await(self, receiving: Connection) -> T:
        deadline = time.monotonic() + self._timeout_s
        while not receiving.poll(0.2):
            if self._stop.is_set():
                raise Interrupted
            if time.monotonic() > deadline:
                raise WorkFailed(f"not done after {self._timeout_s:.0f} s")
        succeeded, value = receiving.recv()
        if not succeeded:
            raise WorkFailed(value)
        result: T = value
        return result


def _deliver(sending: Connection, work: Callable[..., object], arguments: tuple[object, ...]) -> None:
    threading.Thread(target=_end_with_parent, name="end-with-parent", daemon=True).start()
    # Decisions and streams on the same machine come first.
    os.nice(_NICENESS)
    try:
        message = (True, work(*arguments))
    except Exception as error:
        # Whatever went wrong is the caller's to report; only text is sure to survive the way there.
        message = (False, f"{type(error).__name__}: {error}")
    sending.send(message)


def _end_with_parent() -> None:
    """Ends this process when its parent is gone, however that ended: nobody waits for the work any more."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(_ORPHANED)


def _end(process: multiprocessing.process.BaseProcess) -> None:
    process.join(_LEAVE_WITHIN_S)
    if process.is_alive():
        process.terminate()
        process.join(_STOP_WITHIN_S)
    if process.is_alive():
        process.kill()
        process.join()
