"""The spool keeps records over deaths, outages and refusals, and never keeps an answer."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from flywheel.adapters import decision_spool, spool_delivery
from flywheel.adapters.decision_spool import Promise, SpooledDecisionLog, Told
from flywheel.adapters.memory_decision_log import MemoryDecisionLog
from flywheel.adapters.spool_segments import SegmentFile, Slot, framed, parsed

RECORDS = [(f"k{number}".encode(), b"v" * number) for number in range(20)]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_delivery, "_AGAIN_S", 0.01)
    monkeypatch.setattr(spool_delivery, "_WAIT_S", 0.001)
    monkeypatch.setattr(decision_spool, "_RETRY_S", 0.02)


class Scene:
    """A spool in front of a log in memory, and what both told."""

    def __init__(self, directory: Path, promise: Promise = "process", patience_s: float = 10.0, **limits: int) -> None:
        self.ends: Counter[str] = Counter()
        self.waits: list[float] = []
        told = Told(
            acknowledged=lambda: self.count("acknowledged"),
            lost=self.count,
            replayed=lambda: self.count("replayed"),
            unprotected=lambda reason, records: self.ends.update({f"unprotected {reason}": records}),
            waited=self.waits.append,
        )
        self.behind = MemoryDecisionLog(
            on_acknowledged=told.acknowledged, on_lost=told.lost, capacity=limits.get("capacity", 10_000)
        )
        self.log = SpooledDecisionLog(
            self.behind,
            directory,
            told,
            promise=promise,
            capacity_bytes=limits.get("capacity_bytes", 1 << 20),
            patience_s=patience_s,
        )

    def count(self, end: str) -> None:
        self.ends[end] += 1

    @asynccontextmanager
    async def living(self) -> AsyncIterator[SpooledDecisionLog]:
        """Until the block ends, by death: nothing is closed but what the kernel closes."""
        self.log.start()
        yield self.log
        for task in self.log._tasks:
            task.cancel()
        if self.log._slot is not None:
            self.log._slot.release()

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(5):
            while not condition():
                self.behind._deliver()
                await asyncio.sleep(0.001)


def files(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*.spool") if path.stat().st_size]


@pytest.fixture(params=["process", "disk"])
def promise(request: pytest.FixtureRequest) -> Promise:
    chosen: Promise = request.param
    return chosen


async def append(log: SpooledDecisionLog, records: list[tuple[bytes, bytes]]) -> None:
    waiting = log.append_many(records)
    if waiting is not None:
        await waiting


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
            broken.setattr(os, "write", _raising(OSError(failure, os.strerror(failure))))
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


@pytest.mark.parametrize("behind", [False, True])
async def test_resending_goes_on_after_an_error_nobody_foresaw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, behind: bool
) -> None:
    scene = Scene(tmp_path, capacity=3)
    scene.behind.away = behind
    async with scene.living() as log:
        with monkeypatch.context() as broken:
            broken.setattr(scene.behind, "send", _raising(RuntimeError("unforeseen")))
            await append(log, RECORDS)
            await asyncio.sleep(0.03)
        with monkeypatch.context() as broken:
            broken.setattr(SegmentFile, "read", _raising(RuntimeError("unforeseen")))
            await asyncio.sleep(0.03)
        scene.behind.away = False
        await scene.until(lambda: log.in_flight == 0)
    assert scene.ends == {"acknowledged": 20}


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


def test_half_a_frame_at_the_end_is_left_out() -> None:
    data = b"".join(framed(RECORDS))
    assert parsed(data, whole=True).records == RECORDS
    torn = parsed(data[:-1], whole=True)
    assert (torn.records, torn.damaged) == (RECORDS[:-1], True)
    assert not parsed(data[:-1], whole=False).damaged


def test_a_flipped_bit_ends_what_is_read() -> None:
    data = bytearray(b"".join(framed(RECORDS)))
    data[len(data) // 2] ^= 1
    chunk = parsed(bytes(data), whole=True)
    assert chunk.damaged
    assert chunk.records == RECORDS[: len(chunk.records)]


async def test_records_of_a_damaged_file_are_counted_as_lost(tmp_path: Path) -> None:
    scene = Scene(tmp_path, capacity=1)
    scene.behind.away = True
    async with scene.living() as log:
        await append(log, RECORDS)
        (path,) = files(tmp_path)
        os.truncate(path, path.stat().st_size - 1)
        scene.behind.away = False
        await scene.until(lambda: log.in_flight == 0)
    assert scene.ends == {"acknowledged": 19, "damaged": 1}


async def test_a_damaged_file_costs_only_what_had_not_arrived_and_is_set_aside(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    async with scene.living() as log:
        await append(log, RECORDS[:15])
        scene.behind.away = True
        await append(log, RECORDS[15:])
        (path,) = files(tmp_path)
        _flip(path, 12)
        scene.behind.fail()
        scene.behind.away = False
        await scene.until(lambda: scene.ends.total() == 20)
        assert (scene.ends, log.in_flight) == ({"acknowledged": 15, "damaged": 5}, 0)
        await append(log, [(b"new", b"")])
        await scene.until(lambda: scene.ends["acknowledged"] == 16)
        await log._delivery.removed()
        assert path.with_suffix(".damaged").exists()
        assert path not in files(tmp_path)


async def test_records_in_a_damaged_file_of_an_earlier_process_are_counted(tmp_path: Path) -> None:
    first = Scene(tmp_path)
    first.behind.away = True
    async with first.living() as log:
        await append(log, RECORDS)
    (path,) = files(tmp_path)
    _flip(path, sum(map(len, framed(RECORDS[:5]))) + 12)
    second = Scene(tmp_path)
    async with second.living() as log:
        await second.until(lambda: second.ends.total() == 20)
        await log._delivery.removed()
        assert (log.in_flight, log.size_bytes) == (0, 0)
    assert second.ends == {"replayed": 5, "inherited": 15}
    assert files(tmp_path) == []
    async with Scene(tmp_path).living() as log:
        await append(log, RECORDS[:1])
    assert path.with_suffix(".damaged").exists()


async def test_a_file_that_cannot_be_read_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Scene(tmp_path)
    first.behind.away = True
    async with first.living() as log:
        await append(log, RECORDS)
    (path,) = files(tmp_path)
    monkeypatch.setattr(SegmentFile, "read", _raising(OSError(errno.EIO, "gone")))
    monkeypatch.setattr(SegmentFile, "frames_after", _raising(OSError(errno.EIO, "gone")))
    second = Scene(tmp_path)
    async with second.living() as log:
        await second.until(lambda: second.ends.total() == 1)
        await log._delivery.removed()
    assert second.ends == {"inherited": 1}
    assert parsed(path.with_suffix(".damaged").read_bytes(), whole=True).records == RECORDS


def test_a_record_longer_than_a_read_is_read(tmp_path: Path) -> None:
    file = SegmentFile(tmp_path / "1.spool")
    file.write(framed([(b"k", b"v" * 1_000), (b"l", b"w")]), to_disk=True)
    assert file.read(0, file.size, 64).records == [(b"k", b"v" * 1_000), (b"l", b"w")]
    file.seal()


def _flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def _raising(error: Exception) -> Callable[..., int]:
    def raise_it(*_: object) -> int:
        raise error

    return raise_it
