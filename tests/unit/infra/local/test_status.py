"""How status shows things."""

from __future__ import annotations

import pytest

from flywheel.adapters.metrics_server import MetricsServer
from infra.local.console import table
from infra.local.processes import Process
from infra.local.readiness import HttpReady
from infra.local.status import duration, said, summary
from infra.local.supervision import State


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0s"), (9.7, "9s"), (60, "1m"), (432, "7m 12s"), (7_500, "2h 5m"), (273_600, "3d 4h"), (86_405, "1d 5s")],
)
def test_duration_shows_its_two_largest_units(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_a_table_is_as_wide_as_its_cells() -> None:
    assert table(("A", "B"), [("long", 1), ("x", 22)]) == "A     B\nlong  1\nx     22"


@pytest.mark.parametrize(
    ("states", "restarted", "said"),
    [
        ([State.RUNNING] * 8, 0, "8 of 8 run, 0 restarts"),
        ([State.RUNNING] * 7 + [State.STARTING], 1, "7 of 8 run, 1 starting, 1 restart"),
        ([State.RUNNING, State.BACKOFF, State.FATAL], 12, "1 of 3 run, 12 restarts"),
    ],
)
def test_what_is_only_starting_does_not_run_yet(states: list[State], restarted: int, said: str) -> None:
    assert summary(states, restarted) == said


def test_what_a_process_says_of_itself_is_shown() -> None:
    server = MetricsServer(0, lambda: (True, "2 of 2 workers (since the start 1 hung): model v3"))
    server.start()
    try:
        ready = HttpReady(f"http://127.0.0.1:{server.port}/readyz")
        silent = Process("ingest", (), (), ready, 1, "", {})
        gone = Process("trainer", (), (), ready, 1, "", {}, says=HttpReady("http://127.0.0.1:1/readyz"))
        speaks = Process("serving", (), (), ready, 1, "", {}, says=ready)
        assert said([silent, gone, speaks]) == ["  serving: 2 of 2 workers (since the start 1 hung): model v3"]
    finally:
        server.close()
