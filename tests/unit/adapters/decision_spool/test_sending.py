"""The spool sends what it keeps: after deaths, outages and refusals, in order, and counts it once."""

from __future__ import annotations

import asyncio
import errno
import os
import random
from pathlib import Path

import pytest

from flywheel.adapters.decision_spool import Promise
from flywheel.adapters.spool_segments import SegmentFile, framed, parsed
from tests.spool_scene import RECORDS, Scene, append, files, raising


async def test_what_was_acknowledged_is_forgotten(tmp_path: Path, promise: Promise) -> None:
    scene = Scene(tmp_path, promise)
    scene.log.start()
    await append(scene.log, RECORDS)
    assert files(tmp_path)
    assert scene.behind.records == RECORDS
    await scene.log.close(1.0)
    assert scene.ends == {"acknowledged": 20}
    assert (files(tmp_path), scene.log.in_flight, scene.log.size_bytes) == ([], 0, 0)
    assert len(scene.waits) == 1


async def test_what_a_dead_process_left_is_sent_by_the_next_one(tmp_path: Path, promise: Promise) -> None:
    first = Scene(tmp_path, promise)
    first.behind.away = True
    async with first.living() as log:
        await append(log, RECORDS)
    assert first.ends == {}
    second = Scene(tmp_path, promise)
    async with second.living() as log:
        await append(log, [(b"new", b"")])
        await second.until(lambda: second.ends.total() == 21)
        assert log.in_flight == 0
    assert second.behind.records == [*RECORDS, (b"new", b"")]
    assert second.ends == {"replayed": 20, "acknowledged": 1}


async def test_a_living_process_keeps_its_place_and_a_dead_ones_is_adopted(tmp_path: Path) -> None:
    first, second, third = (Scene(tmp_path) for _ in range(3))
    for scene in (first, second):
        scene.behind.away = True
    async with first.living():
        async with second.living():
            await append(first.log, RECORDS[:5])
            await append(second.log, RECORDS[5:])
        async with third.living():
            await third.until(lambda: third.ends.total() == 15)
            assert third.behind.records == RECORDS[5:]
    async with Scene(tmp_path).living() as log:
        assert log.size_bytes > 0


async def test_places_of_more_than_one_dead_process_are_adopted_by_the_next(tmp_path: Path) -> None:
    first, second = Scene(tmp_path), Scene(tmp_path)
    for scene in (first, second):
        scene.behind.away = True
    async with first.living(), second.living():
        await append(first.log, RECORDS[:5])
        await append(second.log, RECORDS[5:])
    heir = Scene(tmp_path)
    async with heir.living():
        await heir.until(lambda: heir.ends["replayed"] == 20)
    assert set(heir.behind.records) == set(RECORDS)


async def test_a_write_that_was_cut_off_costs_nothing_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Scene(tmp_path)
    first.behind.away = True
    write = os.write

    def half(handle: int, data: bytes) -> int:
        if len(data) < 30:
            raise OSError(errno.ENOSPC, "full")
        return write(handle, data[: len(data) // 2])

    async with first.living() as log:
        await append(log, RECORDS[:10])
        with monkeypatch.context() as filling:
            filling.setattr(os, "write", half)
            await append(log, RECORDS[10:])
        assert first.ends == {"unprotected unwritable": 10}
        (path,) = files(tmp_path)
        assert parsed(path.read_bytes(), whole=True) == parsed(b"".join(framed(RECORDS[:10])), whole=True)
    second = Scene(tmp_path)
    async with second.living():
        await second.until(lambda: second.ends["replayed"] == 10)


async def test_a_close_leaves_on_disk_what_nobody_took(tmp_path: Path) -> None:
    first = Scene(tmp_path)
    first.behind.away = True
    first.log.start()
    await append(first.log, RECORDS)
    await first.log.close(0.02)
    assert first.ends == {}
    second = Scene(tmp_path)
    async with second.living():
        await second.until(lambda: second.ends["replayed"] == 20)


async def test_records_that_do_not_fit_the_sender_are_read_back_in_order(tmp_path: Path) -> None:
    scene = Scene(tmp_path, capacity=3)
    scene.behind.away = True
    async with scene.living() as log:
        for record in RECORDS:
            await append(log, [record])
        assert log.in_flight == 20
        scene.behind.away = False
        await scene.until(lambda: scene.ends.total() == 20)
    assert scene.behind.records == RECORDS
    assert scene.ends == {"acknowledged": 20}


async def test_undelivered_records_are_sent_again_and_counted_once(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    async with scene.living() as log:
        await append(log, RECORDS[:10])
        scene.behind.away = True
        await append(log, RECORDS[10:])
        scene.behind.fail()
        assert log.in_flight == 10
        scene.behind.away = False
        await scene.until(lambda: scene.ends.total() == 20)
        assert scene.ends == {"acknowledged": 20}
        assert set(scene.behind.records) == set(RECORDS)
        await append(log, RECORDS)
        await scene.until(lambda: scene.ends.total() == 40)


@pytest.mark.parametrize("seed", range(5))
async def test_whatever_happens_every_record_arrives_and_is_counted_once(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    scene = Scene(tmp_path, capacity=7)
    sent = [(str(number).encode(), draw.randbytes(draw.randrange(100_000))) for number in range(60)]
    scene.log._capacity_bytes = 1 << 30
    async with scene.living() as log:
        for place in range(0, 60, 3):
            scene.behind.away = draw.random() < 0.5
            if draw.random() < 0.3:
                scene.behind.fail()
            await append(log, sent[place : place + 3])
            await asyncio.sleep(draw.choice([0, 0.005]))
        scene.behind.away = False
        await scene.until(lambda: log.in_flight == 0)
    assert scene.ends == {"acknowledged": 60}
    assert set(scene.behind.records) == set(sent)


@pytest.mark.parametrize("behind", [False, True])
async def test_resending_goes_on_after_an_error_nobody_foresaw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, behind: bool
) -> None:
    scene = Scene(tmp_path, capacity=3)
    scene.behind.away = behind
    async with scene.living() as log:
        with monkeypatch.context() as broken:
            broken.setattr(scene.behind, "send", raising(RuntimeError("unforeseen")))
            await append(log, RECORDS)
            await asyncio.sleep(0.03)
        with monkeypatch.context() as broken:
            broken.setattr(SegmentFile, "read", raising(RuntimeError("unforeseen")))
            await asyncio.sleep(0.03)
        scene.behind.away = False
        await scene.until(lambda: log.in_flight == 0)
    assert scene.ends == {"acknowledged": 20}
