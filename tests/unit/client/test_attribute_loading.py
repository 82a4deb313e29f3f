"""The command that loads attributes: whom it lets in again after an erasure, and how it fails."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flywheel.adapters.memory_erasures import MemoryErasures
from flywheel.adapters.memory_store import MemoryFeatureStore
from flywheel.client import attributes, commands
from flywheel.client.commands import main
from flywheel.contracts.erasure import Erased
from flywheel.contracts.events import to_us
from flywheel.contracts.settings import PlatformSettings
from flywheel.kernel import catalog
from flywheel.kernel.attributes import AttributeRow, AttributeTable
from flywheel.kernel.erasure import EraseKey
from flywheel.kernel.features import join_id
from flywheel.kernel.ports import Unavailable
from tests.attribute_scene import PLAN, PROFILE, TRUST, USECASE

KEY = EraseKey(PlatformSettings().erasure_key.encode(), USECASE.name)
ERASED = datetime.now(UTC) - timedelta(hours=1)


class Store(MemoryFeatureStore):
    """Remembers who was brought online, unless it is away."""

    def __init__(self) -> None:
        super().__init__(PLAN)
        self.online: dict[str, AttributeRow] = {}
        self.is_away = False

    def put(self, table: AttributeTable, rows: Sequence[AttributeRow]) -> None:
        if self.is_away:
            raise Unavailable("Redis does not answer")
        self.online |= {row.entity_id: row for row in rows}
        super().put(table, rows)

    def close(self) -> None: ...


@pytest.fixture
def erasures() -> MemoryErasures:
    return MemoryErasures(KEY)


@pytest.fixture
def store(erasures: MemoryErasures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    store = Store()
    monkeypatch.setenv("FLYWHEEL_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(catalog, "load", lambda _: USECASE)
    monkeypatch.setattr(commands, "_present", present)
    monkeypatch.setattr(attributes, "create_topics", lambda *_: None)
    monkeypatch.setattr(attributes, "KafkaErasures", lambda *_: erasures)
    monkeypatch.setattr(attributes, "RedisFeatureWriter", lambda *_: store)
    return store


async def present(*_: object) -> datetime:
    """The stream is where the wall clock is."""
    return datetime.now(UTC)


def erase(erasures: MemoryErasures, entity: str, *parts: str) -> None:
    pseudonym = KEY.pseudonym(entity, join_id(parts))
    erasures.publish(
        Erased(
            usecase=USECASE.name,
            entity=entity,
            pseudonym=pseudonym,
            key_check=KEY.check,
            erased_at=ERASED,
            erased_by="test",
            removed={},
        )
    )


def load(directory: Path, text: str, *arguments: str, table: AttributeTable = PROFILE) -> int:
    file = directory / "given.csv"
    file.write_text(text)
    return main(["attributes", USECASE.name, table.name, str(file), *arguments])


COLUMNS = "terminal_id,floor_limit_cents,opened_days"
AFTER, BEFORE = ((ERASED + timedelta(seconds=seconds)).isoformat() for seconds in (1, -1))


@pytest.mark.parametrize("arguments", [(), ("--as-of", AFTER)])
def test_a_file_that_says_no_moments_brings_nobody_back(
    arguments: tuple[str, ...],
    store: Store,
    erasures: MemoryErasures,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    erase(erasures, "terminal", "gone")
    assert load(tmp_path, f"{COLUMNS}\ngone,1,\nstays,2,\n", *arguments) == 0
    assert list(store.online) == ["stays"]
    said = capsys.readouterr().out.splitlines()[-1]
    assert "1 row loaded, 1 of erased entities left out (who is there anew needs an as_of after the erasure" in said


def test_only_a_row_of_a_moment_after_the_erasure_brings_somebody_in_anew(
    store: Store, erasures: MemoryErasures, tmp_path: Path
) -> None:
    erase(erasures, "terminal", "anew")
    erase(erasures, "terminal", "gone")
    text = f"{COLUMNS},as_of\nanew,1,,{AFTER}\nanew,2,,{BEFORE}\ngone,3,,{BEFORE}\nstays,4,,{BEFORE}\n"
    assert load(tmp_path, text) == 0
    assert {key: row.values[0] for key, row in store.online.items()} == {"anew": 1.0, "stays": 4.0}


def test_whoever_a_pair_names_stays_away_too(store: Store, erasures: MemoryErasures, tmp_path: Path) -> None:
    erase(erasures, "card", "gone")
    assert load(tmp_path, "terminal_id,card_id,share\nt1,gone,0.5\nt1,stays,0.5\n", table=TRUST) == 0
    assert [row.key for row in store.online.values()] == [("t1", "stays")]


def test_what_cannot_go_online_is_kept_and_goes_there_the_next_time(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store.is_away = True
    assert load(tmp_path, f"{COLUMNS}\nt1,1,\n") == 1
    assert "terminal_profile is kept in the lake, but not all of it online: Redis" in capsys.readouterr().err
    store.is_away = False
    assert load(tmp_path, f"{COLUMNS}\nt1,1,\n") == 0
    assert list(store.online) == ["t1"]


def test_every_failure_of_disk_and_memory_is_one_sentence_with_the_way_out(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lake").write_text("no directory")
    assert load(tmp_path, f"{COLUMNS}\nt1,1,\n") == 1
    assert is_sentence(capsys.readouterr().err, "terminal_profile is not loaded: ")
    (tmp_path / "lake").unlink()
    monkeypatch.setenv("FLYWHEEL_ATTRIBUTES_MEMORY_MIB", "1")
    assert load(tmp_path, f"{COLUMNS}\nt1,1,\n") == 1
    assert is_sentence(capsys.readouterr().err, "FLYWHEEL_ATTRIBUTES_MEMORY_MIB")
    monkeypatch.delenv("FLYWHEEL_ATTRIBUTES_MEMORY_MIB")
    assert load(tmp_path, f"{COLUMNS}\nt1,1,\n") == 0
    assert list(store.online) == ["t1"]


def is_sentence(said: str, words: str) -> bool:
    return words in said and said.endswith("give the command again\n") and said.count("\n") == 1


def test_beside_a_played_world_rows_are_as_of_its_present_and_none_of_later(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    played = datetime(2018, 6, 1, tzinfo=UTC)

    async def world(*_: object) -> datetime:
        return played

    monkeypatch.setattr(commands, "_present", world)
    assert load(tmp_path, f"{COLUMNS}\nt1,1,2\n") == 0
    assert store.online["t1"].as_of_us == to_us(played)
    assert load(tmp_path, f"{COLUMNS}\nt2,1,2\n", "--as-of", "2026-01-01T00:00:00Z") == 1
    assert "has not come yet" in capsys.readouterr().err
