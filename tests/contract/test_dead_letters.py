"""Dead letters are kept up to a bound, counted without one, and come once however often their batch does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from flywheel.adapters.dead_letter_folder import DeadLetterFolder
from flywheel.adapters.memory_dead_letters import MemoryDeadLetters
from flywheel.kernel.dead_letters import DeadLetter
from flywheel.kernel.ports import DeadLetters

Open = Callable[[], DeadLetters]


@pytest.fixture(params=["memory", "folder"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    memory = MemoryDeadLetters(most=10)
    # The folder is opened anew each time, as after a restart.
    return (lambda: memory) if request.param == "memory" else (lambda: DeadLetterFolder(tmp_path / "letters", most=10))


def letters(first: int, number: int) -> list[DeadLetter]:
    return [
        DeadLetter("t", 0, offset, 1_000, "not_json", "no JSON", b"k", b"\xff\x00", 2)
        for offset in range(first, first + number)
    ]


def test_a_new_store_is_empty(opened: Open) -> None:
    assert opened().letters() == []
    assert opened().seen() == {}
    assert opened().kept() == opened().remove(lambda _: True) == 0


def test_a_batch_that_comes_again_changes_nothing(opened: Open) -> None:
    for _ in range(3):
        opened().write(4, letters(0, 3), {"unreadable": 3, "erased": 1})
    for _ in range(2):
        opened().write(6, letters(3, 2), {"unreadable": 2})
    assert opened().letters() == letters(0, 5)
    assert opened().seen() == {"unreadable": 5, "erased": 1}


def test_the_oldest_make_room_and_stay_counted(opened: Open) -> None:
    for batch in range(9):
        opened().write(batch, letters(batch * 4, 4), {"unreadable": 40})
    assert opened().letters() == letters(24, 12)
    assert opened().kept() == 12
    assert opened().seen() == {"unreadable": 360}


def test_unwanted_letters_go_and_stay_counted(opened: Open) -> None:
    opened().write(0, letters(0, 4), {"unreadable": 4})
    assert opened().remove(lambda letter: letter.offset % 2 == 0) == 2
    assert [letter.offset for letter in opened().letters()] == [1, 3]
    assert opened().seen() == {"unreadable": 4}


def test_what_only_counts_leaves_no_letter(opened: Open) -> None:
    opened().write(0, [], {"erased": 2})
    assert opened().letters() == []
    assert opened().seen() == {"erased": 2}
