"""A command becomes what it prepared, or says why not."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from infra.local.becoming import become
from infra.local.failures import CannotStart
from infra.local.places import ROOT


@pytest.mark.parametrize("fails", ["command", "variables"])
def test_what_cannot_start_ends_with_the_reason_alone(fails: str) -> None:
    def refuse() -> None:
        raise CannotStart("there is no such thing; install it")

    def command() -> list[str]:
        if fails == "command":
            refuse()
        return ["/nowhere"]

    def variables() -> dict[str, str]:
        refuse()
        return {}

    with pytest.raises(SystemExit) as ended:
        become(command, variables)
    assert ended.value.code == "there is no such thing; install it"


def test_it_is_the_same_process_with_its_variables_and_more() -> None:
    program = [
        "import sys, os",
        "from infra.local.becoming import become",
        "print(os.getpid(), flush=True)",
        'show = \'import os; print(os.getpid(), os.environ["KEPT"], os.environ["MORE"])\'',
        "become(lambda: [sys.executable, '-c', show], lambda: {'MORE': 'new'})",
    ]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(program)],
        cwd=ROOT,
        env=os.environ | {"KEPT": "old"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    before, after = done.stdout.splitlines()
    assert after == f"{before} old new"
