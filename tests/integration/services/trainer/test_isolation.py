"""Work in a process of its own: its result comes back, its end is only its own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from services.trainer.isolation import Interrupted, Isolated, WorkFailed


def double(value: int) -> tuple[int, int]:
    return 2 * value, os.getpid()


def raises(value: int) -> None:
    raise LookupError(f"no {value}")


def dies(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hangs(_: int) -> None:
    # SIGTERM is not enough to end it.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)


def await_true(condition: Callable[[], bool], timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def isolated(work: Callable[[int], object], timeout_s: float = 60) -> Isolated[object]:
    return Isolated(work, timeout_s=timeout_s, stop=threading.Event())


def test_the_result_comes_from_another_process() -> None:
    result = isolated(double)(21)
    assert isinstance(result, tuple)
    assert result[0] == 42
    assert result[1] != os.getpid()


def test_an_error_comes_back_as_its_text() -> None:
    with pytest.raises(WorkFailed, match="LookupError: no 7"):
        isolated(raises)(7)


def test_a_killed_process_is_a_failure() -> None:
    with pytest.raises(WorkFailed, match="exit code -9"):
        isolated(dies)(0)


def test_one_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.trainer.isolation._STOP_WITHIN_S", 0.3)
    with pytest.raises(WorkFailed, match="not done after"):
        isolated(hangs, timeout_s=2)(0)


def test_being_told_to_stop_ends_it() -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(Interrupted):
        Isolated(hangs, timeout_s=60, stop=stop)(0)


def marks(started: Path) -> None:
    started.write_text(str(os.getpid()))
    time.sleep(600)


def waits_for_marks(started: Path) -> None:
    Isolated(marks, timeout_s=60, stop=threading.Event())(started)


def test_the_work_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    started = tmp_path / "pid"
    parent = multiprocessing.get_context("spawn").Process(target=waits_for_marks, args=(started,))
    parent.start()
    await_true(lambda: started.exists() and started.read_text() != "")
    work = psutil.Process(int(started.read_text()))
    parent.kill()
    parent.join()
    await_true(lambda: not work.is_running() or work.status() == psutil.STATUS_ZOMBIE)
