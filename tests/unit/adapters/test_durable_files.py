"""A file is the old one or the new one, never half of one."""

from __future__ import annotations

from pathlib import Path

import pytest

from flywheel.adapters.durable_files import LEFT_BEHIND, replacing, write


def test_what_is_written_takes_the_place_of_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "file"
    write(file, b"one")
    write(file, b"two")
    assert file.read_bytes() == b"two"
    assert list(tmp_path.iterdir()) == [file]


def test_until_it_is_whole_a_reader_finds_the_old_one(tmp_path: Path) -> None:
    file = tmp_path / "file"
    write(file, b"old")
    with replacing(file) as sink:
        sink.write(b"new, ")
        sink.flush()
        assert file.read_bytes() == b"old"
        sink.write(b"all of it")
    assert file.read_bytes() == b"new, all of it"


def test_what_was_broken_off_leaves_the_old_one_and_is_found_by_its_name(tmp_path: Path) -> None:
    file = tmp_path / "file"
    write(file, b"old")
    with pytest.raises(TypeError), replacing(file) as sink:
        sink.writelines([b"half", None])  # type: ignore[list-item]
    assert file.read_bytes() == b"old"
    assert [path for path in tmp_path.iterdir() if path != file] == list(tmp_path.glob(LEFT_BEHIND))
    assert list(tmp_path.glob(LEFT_BEHIND))
