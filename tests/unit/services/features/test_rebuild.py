"""What a rebuild does beside the states: attributes come back from their loads."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from flywheel.adapters.attribute_lake import AttributeLake, LoadsUnreadable
from flywheel.adapters.memory_erasures import MemoryErasures
from flywheel.adapters.memory_store import MemoryFeatureStore
from flywheel.adapters.spark_archive import Lake
from flywheel.adapters.telling import Tell
from flywheel.contracts.topics import event_topic
from flywheel.kernel.attributes import AttributeTable
from flywheel.kernel.erasure import EraseKey
from services.features import __main__ as service
from services.features import bootstrap
from services.features.bootstrap import attribute_lake
from services.features.rebuild import NothingToRebuildFrom, Rebuilder, Rebuilt
from services.features.settings import FeaturesSettings
from tests.attribute_scene import PLAN, PROFILE, SEGMENTS, USECASE, profile

LOADED = datetime(2018, 4, 1, tzinfo=UTC)


class Archived:
    """A checkpoint whose query has finished a batch, in which no record was an event, or none yet."""

    def __init__(self, *, begun_yet: bool = True) -> None:
        self.begun: Any = None
        self._positions = {event_topic("fraud", "transaction").name: {"0": 3}} if begun_yet else {}

    def positions(self) -> dict[str, dict[str, int]]:
        return self._positions

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


@pytest.fixture
def settings(tmp_path: Path) -> FeaturesSettings:
    return FeaturesSettings(data_dir=tmp_path, attributes_memory_mib=64)


@pytest.fixture
def loads(settings: FeaturesSettings) -> AttributeLake:
    lake = attribute_lake(settings)
    lake.append(PROFILE, [profile("t1", 5), profile("t2", 5)], LOADED)
    return lake


@pytest.fixture
def store() -> Recorded:
    store = Recorded()
    store.claim("the stream")
    return store


def rebuild(settings: FeaturesSettings, store: Recorded, checkpoint: Archived, tell: Tell = lambda _: None) -> Rebuilt:
    lake, nobody = Lake(settings.lake_dir, USECASE), MemoryErasures(EraseKey(b"key", "fraud"))
    session: Any = None
    archive: Any = checkpoint
    return Rebuilder(PLAN, session, lake, attribute_lake(settings), store, nobody).run(archive, archive, tell)


def test_attributes_come_back_although_no_event_is_archived(
    settings: FeaturesSettings, loads: AttributeLake, store: Recorded
) -> None:
    told, checkpoint = list[str](), Archived()
    loads.append(PROFILE, [profile("t1", 6)], LOADED)
    rebuilt = rebuild(settings, store, checkpoint, told.append)
    assert {name: sorted(keys) for name, keys in store.brought.items()} == {PROFILE.name: ["t1", "t2"]}
    assert rebuilt.events == {}
    assert set(rebuilt.entities.values()) == {0}
    assert checkpoint.begun == checkpoint.positions()
    assert any(line.startswith(f"{PROFILE.name}: 2 entities") for line in told)
    assert any(line.startswith(f"{SEGMENTS.name}: 0 entities") for line in told)


@pytest.mark.usefixtures("loads")
def test_attributes_come_back_before_the_archive_has_finished_anything(
    settings: FeaturesSettings, store: Recorded
) -> None:
    checkpoint = Archived(begun_yet=False)
    with pytest.raises(NothingToRebuildFrom):
        rebuild(settings, store, checkpoint)
    assert sorted(store.brought[PROFILE.name]) == ["t1", "t2"]
    assert (store.source(), checkpoint.begun) == ("the stream", None)


def spoil(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:100])


def test_a_broken_load_stops_the_rebuild_before_it_touched_the_stream_and_says_what_to_do(
    settings: FeaturesSettings, loads: AttributeLake, store: Recorded
) -> None:
    broken = loads.append(PROFILE, [profile("t3", 5)], LOADED)
    spoil(broken)
    checkpoint = Archived()
    with pytest.raises(LoadsUnreadable, match=rf"the loads of {PROFILE.name} .*{broken.name}.*move .* load its rows"):
        rebuild(settings, store, checkpoint)
    assert (store.source(), checkpoint.begun) == ("the stream", None)


@pytest.mark.usefixtures("loads")
def test_how_much_memory_attributes_may_take_is_a_setting_of_theirs(
    settings: FeaturesSettings, store: Recorded
) -> None:
    few = settings.model_copy(update={"attributes_memory_mib": 1, "parity_memory_mib": 64})
    with pytest.raises(LoadsUnreadable, match=r"1 MiB are too little .* FLYWHEEL_ATTRIBUTES_MEMORY_MIB"):
        rebuild(few, store, Archived())


def test_the_command_answers_in_a_sentence(
    settings: FeaturesSettings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: Any) -> Rebuilt:
        raise LoadsUnreadable("the loads of terminal_profile cannot be read")

    monkeypatch.setattr(bootstrap, "rebuild_store", fails)
    assert service.rebuild(settings) == 1
    assert capsys.readouterr().out == "not rebuilt: the loads of terminal_profile cannot be read\n"
