"""Of workers that are silent: who is killed, and when."""

from __future__ import annotations

from unittest.mock import Mock

from flywheel.adapters.worker_pool import Gone, Worker, WorkerPool

SILENCE_S = 5.0
START_TIMEOUT_S = 60.0


def pool_of(*heard_s: float) -> WorkerPool:
    """Workers that serve and were heard last at those moments."""
    pool = WorkerPool([], len(heard_s), start_timeout_s=START_TIMEOUT_S, stop_timeout_s=10.0, silence_s=SILENCE_S)
    for slot, at_s in enumerate(heard_s):
        worker = Worker(slot, Mock(), Mock(), started_s=0.0, metrics_port=1, heard_s=at_s)
        worker.ready.set()
        pool.workers.append(worker)
    return pool


def killed(pool: WorkerPool) -> list[int]:
    return [worker.slot for worker in pool.workers if worker.killed_for is Gone.HUNG]


def test_one_that_is_silent_beside_one_that_is_heard_is_killed() -> None:
    pool = pool_of(100.0, 104.0)
    pool._kill_the_most_silent(105.0)
    assert killed(pool) == []
    pool._kill_the_most_silent(105.1)
    assert killed(pool) == [0]
    assert not pool.workers[0].takes_connections
    pool._kill_the_most_silent(109.1)
    assert killed(pool) == [0]


def test_of_several_that_are_silent_one_is_killed_at_a_time_and_never_the_last_that_serves() -> None:
    pool = pool_of(101.0, 100.0, 109.0)
    pool._kill_the_most_silent(110.0)
    assert killed(pool) == [1]
    pool._kill_the_most_silent(110.5)
    assert killed(pool) == [0, 1]
    pool._kill_the_most_silent(115.0)
    assert killed(pool) == [0, 1]


def test_all_that_fall_silent_at_once_are_let_come_back() -> None:
    pool = pool_of(100.0, 100.0)
    for now_s in (105.5, 110.0, 115.0):
        pool._kill_the_most_silent(now_s)
    assert killed(pool) == []
    pool.workers[1].heard_s = 115.5
    pool._kill_the_most_silent(116.0)
    assert killed(pool) == [0]


def test_where_all_stay_silent_they_are_killed_in_the_end_one_after_the_other() -> None:
    pool = pool_of(100.0, 100.0)
    pool._kill_the_most_silent(115.1)
    assert len(killed(pool)) == 1
    pool._kill_the_most_silent(115.6)
    assert len(killed(pool)) == 2


def test_one_that_does_not_begin_to_serve_has_its_own_time() -> None:
    pool = pool_of(0.0, START_TIMEOUT_S)
    pool.workers[0].metrics_port = 0
    pool.workers[0].ready.clear()
    pool._kill_the_most_silent(START_TIMEOUT_S)
    assert killed(pool) == []
    pool._kill_the_most_silent(START_TIMEOUT_S + 0.1)
    assert killed(pool) == [0]


def test_one_that_has_just_ended_by_itself_died_and_was_not_killed() -> None:
    pool = pool_of(100.0, 110.0)
    pool.workers[0].process = Mock(**{"kill.side_effect": ProcessLookupError})
    pool._kill_the_most_silent(110.0)
    assert pool.workers[0].gone_for is Gone.DIED


async def test_telling_one_to_end_that_has_just_ended_is_no_failure() -> None:
    pool = pool_of(100.0)
    (worker,) = pool.workers

    def gone(_: int) -> None:
        worker.gone.set()
        raise ProcessLookupError

    worker.process = Mock(send_signal=gone)
    await pool._end(worker)
    assert worker.gone_for is None
