"""A second stack gets ports and a data directory of its own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from flywheel.contracts.settings import PlatformSettings
from infra.local import places
from infra.local.processes import declaration, processes
from infra.local.side_by_side import environment, free_ports


def test_free_ports_differ_and_avoid_what_is_named() -> None:
    (avoided,) = free_ports(1)
    found = free_ports(20, apart_from={avoided})
    assert len(set(found)) == 20
    assert avoided not in found


def test_every_port_and_the_data_move(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYWHEEL_PROMETHEUS", sys.executable)
    ours = PlatformSettings()
    before = ports_of(ours)
    for name, value in environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    theirs = PlatformSettings()
    after = ports_of(theirs)
    assert len(before) == len(after) == 13
    assert before.isdisjoint(after)
    assert places.run_dir(theirs) == tmp_path / "run"


def ports_of(settings: PlatformSettings) -> set[int]:
    return {port for process in processes(declaration(settings)) for port in process.ports.values()}
