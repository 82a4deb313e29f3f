"""What a rebuild does beside the states: attributes come back from their loads."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flywheel.adapters.attribute_lake import AttributeLake
from flywheel.adapters.memory_erasures import MemoryErasures
from flywheel.adapters.memory_store import MemoryFeatureStore
from flywheel.adapters.point_in_time import JoinLimits
from flywheel.adapters.spark_archive import Lake
from flywheel.contracts.topics import event_topic
from flywheel.kernel.attributes import AttributeTable
from flywheel.kernel.erasure import EraseKey
from services.features.rebuild import Rebuilder
from tests.attribute_scene import PLAN, PROFILE, SEGMENTS, USECASE, profile

LOADED = datetime(2018, 4, 1, tzinfo=UTC)


class Archived:
    """A checkpoint whose query has finished a batch, in which no record was an event."""

    begun: Any = None

    def positions(self) -> dict[str, dict[str, int]]:
        return {event_topic("fraud", "transaction").name: {"0": 3}}

    def begin_anew(self, positions: Any) -> None:
        self.begun = positions


class Recorded(MemoryFeatureStore):
    """Remembers which tables were brought online."""

    def __init__(self) -> None:
        super().__init__(PLAN)
        self.brought: dict[str, list[str]] = {}

    def put(self, table: AttributeTable, rows: Any) -> None:
        self.brought.setdefault(table.name, []).extend(row.key[0] for row in rows)
        super().put(table, rows)


def test_attributes_come_back_although_no_event_is_archived(tmp_path: Path) -> None:
    lake, store, told = Lake(tmp_path / "lake", USECASE), Recorded(), list[str]()
    loads = AttributeLake(lake.directory, JoinLimits(64, tmp_path / "spill"))
    loads.append(PROFILE, [profile("t1", 5), profile("t2", 5)], LOADED)
    loads.append(PROFILE, [profile("t1", 6)], LOADED)
    nobody = MemoryErasures(EraseKey(b"key", "fraud"))
    checkpoint: Any = Archived()
    session: Any = None
    rebuilt = Rebuilder(PLAN, session, lake, loads, store, nobody).run(checkpoint, checkpoint, told.append)
    assert {name: sorted(keys) for name, keys in store.brought.items()} == {PROFILE.name: ["t1", "t2"]}
    assert rebuilt.events == {}
    assert set(rebuilt.entities.values()) == {0}
    assert checkpoint.begun == checkpoint.positions()
    assert any(line.startswith(f"{PROFILE.name}: 2 entities") for line in told)
    assert any(line.startswith(f"{SEGMENTS.name}: 0 entities") for line in told)
