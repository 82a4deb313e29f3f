"""What of a damaged file can be read is sent, and the rest is counted."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from flywheel.adapters.spool_segments import SegmentFile, framed, parsed
from tests.spool_scene import RECORDS, Scene, append, files, raising


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
    monkeypatch.setattr(SegmentFile, "read", raising(OSError(errno.EIO, "gone")))
    monkeypatch.setattr(SegmentFile, "frames_after", raising(OSError(errno.EIO, "gone")))
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
