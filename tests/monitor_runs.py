"""Monitors that run over a scene until they have seen something."""

from __future__ import annotations

import time
from collections.abc import Callable

from services.monitor.bootstrap import Monitor
from services.monitor.state import State

SETTINGS = {"monitor_window": 1_000, "monitor_window_least": 200, "monitor_refresh_s": 0.02}

Run = Callable[..., Monitor]


def state_when(monitor: Monitor, reached: Callable[[State], bool]) -> State:
    """The first state that has got there; fails after ten seconds."""
    until = time.monotonic() + 10
    while not reached(monitor.watch.state):
        assert time.monotonic() < until, f"not reached; last loop: {monitor.watch.state.loop}"
        time.sleep(0.005)
    return monitor.watch.state


def read_all(monitor: Monitor, decisions: int) -> State:
    return state_when(monitor, lambda s: s.loop.decisions == decisions and s.loop.lag_records == 0)
