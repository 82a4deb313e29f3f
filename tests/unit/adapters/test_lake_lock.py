"""Many may write the lake at once; whoever rewrites it is alone."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from flywheel.adapters.lake_lock import rewriting, writing
from flywheel.kernel.ports import Unavailable


def test_writers_do_not_wait_for_each_other(tmp_path: Path) -> None:
    with writing(tmp_path / "lake"), writing(tmp_path / "lake"):
        assert (tmp_path / "lake").is_dir()


def test_nobody_rewrites_while_somebody_writes(tmp_path: Path) -> None:
    with writing(tmp_path), pytest.raises(Unavailable), rewriting(tmp_path, timeout_s=0.0):
        pytest.fail("rewrites beside a writer")
    with rewriting(tmp_path, timeout_s=0.0):
        pass


def test_a_writer_waits_for_whoever_rewrites(tmp_path: Path) -> None:
    entered = threading.Event()

    def write() -> None:
        with writing(tmp_path):
            entered.set()

    with rewriting(tmp_path, timeout_s=0.0):
        writer = threading.Thread(target=write)
        writer.start()
        assert not entered.wait(0.2)
    assert entered.wait(10)
    writer.join()


def test_a_rewrite_begins_as_soon_as_the_writer_is_done(tmp_path: Path) -> None:
    begun, done = threading.Event(), threading.Event()

    def write() -> None:
        with writing(tmp_path):
            begun.set()
            done.wait(10)

    writer = threading.Thread(target=write)
    writer.start()
    assert begun.wait(10)
    threading.Timer(0.2, done.set).start()
    with rewriting(tmp_path, timeout_s=10.0):
        assert done.is_set()
    writer.join()
