"""A disk that is full, read-only, slow or hangs never keeps an answer."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from pathlib import Path

import pytest

from flywheel.adapters import decision_spool
from flywheel.adapters.decision_spool import Promise
from flywheel.adapters.spool_segments import Slot
from tests.spool_scene import RECORDS, Scene, append, raising


async def test_a_full_spool_passes_records_on_unprotected(tmp_path: Path, promise: Promise) -> None:
    scene = Scene(tmp_path, promise, capacity_bytes=100, capacity=4)
    scene.behind.away = True
    async with scene.living() as log:
        await append(log, [(b"k", b"v" * 80)])
        await append(log, RECORDS[:3])
        await append(log, RECORDS[3:6])
        assert scene.ends == {"unprotected full": 6, "queue_full": 2}
        scene.behind.away = False
        await scene.until(lambda: scene.ends["acknowledged"] == 5)


@pytest.mark.parametrize("failure", [errno.ENOSPC, errno.EROFS])
async def test_a_disk_that_takes_nothing_keeps_no_answer_and_heals(
    tmp_path: Path, promise: Promise, failure: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(tmp_path, promise)
    async with scene.living() as log:
        await append(log, RECORDS[:5])
        with monkeypatch.context() as broken:
            broken.setattr(os, "write", raising(OSError(failure, os.strerror(failure))))
            await append(log, RECORDS[5:10])
            await append(log, RECORDS[10:15])
        assert scene.ends == {"acknowledged": 15, "unprotected unwritable": 10}
        await asyncio.sleep(0.03)
        await append(log, RECORDS[15:])
        assert scene.ends == {"acknowledged": 20, "unprotected unwritable": 10}


@pytest.mark.parametrize("error", [OSError(errno.EIO, "once"), RuntimeError("once")])
async def test_a_group_that_is_written_after_one_that_failed_ends_the_pause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    scene = Scene(tmp_path, "disk")
    failing = threading.Event()
    failures = [error]

    def once(_: int) -> None:
        failing.wait(5)
        if failures:
            raise failures.pop()

    monkeypatch.setattr(os, "fdatasync", once)
    monkeypatch.setattr(decision_spool, "_RETRY_S", 60)
    async with scene.living() as log:
        first = log.append_many(RECORDS[:5])
        await asyncio.sleep(0)
        second = log.append_many(RECORDS[5:10])
        failing.set()
        assert first is not None
        assert second is not None
        await first
        await second
        await scene.until(lambda: log._writing is None)
        await append(log, RECORDS[10:])
        assert (scene.ends, log.in_flight) == ({"acknowledged": 20, "unprotected unwritable": 5}, 0)
        assert set(scene.behind.records) == set(RECORDS)


async def test_a_place_that_is_no_directory_keeps_no_answer(tmp_path: Path) -> None:
    place = tmp_path / "spool"
    place.write_text("in the way")
    scene = Scene(place)
    async with scene.living() as log:
        await append(log, RECORDS)
        assert scene.ends == {"acknowledged": 20, "unprotected unwritable": 20}


async def test_decisions_made_while_the_disk_works_share_the_next_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    scene = Scene(tmp_path, "disk")
    async with scene.living() as log:
        waiting = [log.append_many([record]) for record in RECORDS]
        await asyncio.gather(*(one for one in waiting if one is not None))
    assert scene.behind.records == RECORDS
    assert len(synced) == 1


async def test_a_disk_that_hangs_keeps_an_answer_for_a_bounded_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(tmp_path, "disk", patience_s=0.05)
    scene.log.start()
    gate, stuck = os.pipe()
    monkeypatch.setattr(os, "fdatasync", lambda _: os.read(gate, 1))
    started = asyncio.get_running_loop().time()
    first = scene.log.append_many(RECORDS[:1])
    assert first is not None
    await first
    assert asyncio.get_running_loop().time() - started < 1
    assert scene.log.append_many(RECORDS[1:3]) is None
    assert scene.ends == {"unprotected slow": 3}
    assert scene.log.in_flight == 3
    os.close(stuck)
    await scene.until(lambda: scene.ends["acknowledged"] == 3)
    await scene.log.close(1.0)
    os.close(gate)


async def test_a_close_leaves_a_write_that_hangs_its_file_and_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(tmp_path, "disk", patience_s=0.01)
    scene.log.start()
    await append(scene.log, RECORDS[:1])
    await scene.until(lambda: scene.ends["acknowledged"])
    hangs, write = threading.Event(), os.write

    def hang(handle: int, data: bytes) -> int:
        assert hangs.wait(5)
        return write(handle, data)

    monkeypatch.setattr(os, "write", hang)
    await append(scene.log, RECORDS[1:2])
    assert scene.log.append_many(RECORDS[2:3]) is None
    await scene.log.close(0.01)
    assert scene.log._slot is not None
    assert Slot.claim(tmp_path).directory != scene.log._slot.directory
    hangs.set()
    await asyncio.to_thread(scene.log._writer.shutdown)
    assert scene.behind.records == [RECORDS[0], RECORDS[2]]
    second = Scene(tmp_path)
    async with second.living():
        await second.until(lambda: second.ends["replayed"] == 2)
    assert second.behind.records == RECORDS[:2]


async def test_a_disk_that_is_slow_again_and_again_is_left_alone_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(tmp_path, patience_s=0.05)
    now_s = [100.0]
    monkeypatch.setattr(scene.log, "_steady_s", lambda: now_s[0])
    write = os.write

    def slow(handle: int, data: bytes) -> int:
        now_s[0] += 0.06
        return write(handle, data)

    async with scene.living() as log:
        with monkeypatch.context() as slowed:
            slowed.setattr(os, "write", slow)
            for record in RECORDS[:3]:
                await append(log, [record])
            assert scene.ends == {"acknowledged": 3}
            await append(log, RECORDS[3:5])
        assert scene.ends == {"acknowledged": 5, "unprotected slow": 2}
        now_s[0] += 0.03
        await append(log, RECORDS[5:])
    assert scene.ends == {"acknowledged": 20, "unprotected slow": 2}
