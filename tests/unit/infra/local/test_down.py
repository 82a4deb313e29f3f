"""What `clean` refuses to remove."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.local import places
from infra.local.down import refuse_precious
from infra.local.failures import CannotStart


@pytest.mark.parametrize("directory", [Path("/"), Path.home(), places.ROOT, places.ROOT.parent])
def test_directories_that_hold_more_than_data_are_safe(directory: Path) -> None:
    with pytest.raises(CannotStart, match="nothing was removed"):
        refuse_precious(directory)


def test_a_directory_that_no_stack_made_is_safe(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(CannotStart, match="does not look like a stack's data"):
        refuse_precious(tmp_path)


def test_a_stack_s_own_directory_may_go(tmp_path: Path) -> None:
    refuse_precious(tmp_path)
    (tmp_path / "run").mkdir()
    refuse_precious(tmp_path)
