"""Nobody loads or rebuilds attributes while somebody is erased, from the store's keys to the lake's last row."""

from __future__ import annotations

import fcntl
import threading
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from flywheel.adapters.attribute_lake import AttributeLake
from flywheel.adapters.lake_lock import writing
from flywheel.adapters.memory_erasures import MemoryErasures
from flywheel.adapters.point_in_time import JoinLimits
from flywheel.client import erasure
from flywheel.client.erased_files import Subject
from flywheel.client.erasure import Erasure, Report
from flywheel.contracts.settings import PlatformSettings
from tests.attribute_scene import PROFILE, USECASE, profile

AT = datetime(2018, 6, 1, tzinfo=UTC)


class Store:
    """An online store beside which a rebuild begins as soon as it is asked about somebody."""

    def __init__(self, settings: PlatformSettings) -> None:
        self._lake = settings.lake_dir / USECASE.name
        self.loads = AttributeLake(self._lake, JoinLimits(64, settings.data_dir / "spill"))
        self.could_begin: bool | None = None
        self.read: list[tuple[str, ...]] | None = None
        self._rebuild = threading.Thread(target=self._read)

    def count(self, _entity: Mapping[str, str]) -> int:
        self.could_begin = is_open(self._lake)
        self._rebuild.start()
        return 1

    remove = count

    def progress(self) -> dict[str, object]:
        return {}

    def close(self) -> None:
        self._rebuild.join(10)

    def _read(self) -> None:
        with writing(self._lake):
            self.read = [row.key for rows in self.loads.newest(PROFILE) for row in rows]


def is_open(lake: Path) -> bool:
    """Whether a load could begin now."""
    with (lake / ".lock").open("w") as file, suppress(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return True
    return False


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    store = Store(PlatformSettings(data_dir=tmp_path))
    store.loads.append(PROFILE, [profile("t1", 5), profile("t2", 5)], AT)
    monkeypatch.setattr(erasure, "RedisEraser", lambda *_: store)
    monkeypatch.setattr(erasure, "KafkaErasures", lambda _, key: MemoryErasures(key))
    monkeypatch.setattr(erasure, "create_topics", lambda *_: None)
    return store


def run(data: Path, *, dry_run: bool) -> Report:
    subject = Subject.named(USECASE, "terminal", ["t1"])
    settings = PlatformSettings(data_dir=data)
    return Erasure(subject, settings, at=AT, by="test", dry_run=dry_run, read_log=False).run()


def test_a_rebuild_beside_an_erasure_finds_nothing_left_to_bring_online(tmp_path: Path, store: Store) -> None:
    assert run(tmp_path, dry_run=False).removed["lake: attribute_tables"] == 1
    assert store.could_begin is False
    assert store.read == [("t2",)]


def test_a_dry_run_keeps_nobody_from_loading(tmp_path: Path, store: Store) -> None:
    assert run(tmp_path, dry_run=True).removed["lake: attribute_tables"] == 1
    assert store.could_begin is True
    assert store.read is not None
    assert sorted(store.read) == [("t1",), ("t2",)]
