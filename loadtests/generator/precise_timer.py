"""A timer of the kernel for an event loop: uvloop's own timers know whole milliseconds only."""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections.abc import Callable

_MONOTONIC = 1
_ABSOLUTE = 1
_NONBLOCKING = os.O_NONBLOCK | os.O_CLOEXEC


class _Spec(ctypes.Structure):
    _fields_ = [(name, ctypes.c_long) for name in ("every_s", "every_ns", "at_s", "at_ns")]


_libc = ctypes.CDLL(None, use_errno=True)


class PreciseTimer:
    """Calls back at moments of `time.perf_counter`, to some ten microseconds."""

    def __init__(self, callback: Callable[[], None]) -> None:
        self._callback = callback
        self._fd = _libc.timerfd_create(_MONOTONIC, _NONBLOCKING)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "this system has no timerfd")
        self._spec = _Spec(0, 0, 0, 0)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fd, self._expired)

    def set(self, at_s: float) -> None:
        """The next call is at that moment; one in the past comes at once."""
        whole = int(at_s)
        self._spec.at_s = whole
        # Zero would mean never.
        self._spec.at_ns = max(1, int((at_s - whole) * 1e9))
        if _libc.timerfd_settime(self._fd, _ABSOLUTE, ctypes.byref(self._spec), None):
            raise OSError(ctypes.get_errno(), "the timer cannot be set")

    def close(self) -> None:
        """No call any more."""
        self._loop.remove_reader(self._fd)
        os.close(self._fd)

    def _expired(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return
        self._callback()
