"""What counts as a restart."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.local import restarts


@pytest.mark.parametrize("from_state", ["EXITED", "BACKOFF"])
def test_a_start_after_a_death_counts(from_state: str) -> None:
    assert restarts.counted({"serving": 1}, "serving", from_state) == {"serving": 2}
    assert restarts.counted({"serving": 1}, "kafka", from_state) == {"serving": 1, "kafka": 1}


def test_a_start_that_was_asked_for_does_not_count() -> None:
    assert restarts.counted({}, "serving", "STOPPED") == {}


def test_counts_are_kept_in_a_file(tmp_path: Path) -> None:
    assert restarts.read(tmp_path) == {}
    restarts.reset(tmp_path)
    assert restarts.read(tmp_path) == {}
    assert (tmp_path / restarts.FILE).exists()
