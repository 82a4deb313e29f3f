"""Where processes and their threads run while something is measured, and afterwards."""

from __future__ import annotations

import os
import threading

from benchmarks.serving_processes import everything_on


def test_a_thread_that_began_meanwhile_does_not_stay_on_fewer_cores() -> None:
    before, done = os.sched_getaffinity(0), threading.Event()
    one = min(before)
    born = threading.Thread(target=done.wait)
    try:
        with everything_on(str(one)):
            born.start()
            assert born.native_id is not None
            assert os.sched_getaffinity(0) == os.sched_getaffinity(born.native_id) == {one}
        assert os.sched_getaffinity(0) == os.sched_getaffinity(born.native_id) == before
    finally:
        done.set()
        born.join()
