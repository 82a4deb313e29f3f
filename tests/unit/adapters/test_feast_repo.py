"""When Feast's registry is brought up to date, and what is remembered of that."""

from __future__ import annotations

from pathlib import Path

import pytest

from flywheel.adapters import feast_repo
from flywheel.adapters.feast_repo import apply_declaration
from flywheel.contracts.settings import PlatformSettings
from flywheel.kernel.plan import compile_plan
from usecases.fraud import usecase

PLAN = compile_plan(usecase)


class Registry:
    """Stands for Feast, which takes seconds to import."""

    def apply(self, objects: list[object]) -> None:
        assert objects == []


@pytest.fixture(autouse=True)
def _no_feast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feast_repo, "open_store", lambda *_: Registry())
    monkeypatch.setattr(feast_repo, "_objects", lambda *_: [])


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("redis://store:7000/2", "store:7000,db=2"),
        ("redis://store", "store:6379,db=0"),
        ("rediss://reader:p%40ss@store:6379/0", "store:6379,db=0,ssl=true,username=reader,password=p@ss"),
    ],
)
def test_feast_is_told_what_the_address_says(url: str, told: str) -> None:
    assert feast_repo._connection(url) == told


def test_feast_is_told_all_addresses_of_a_cluster_and_no_database() -> None:
    assert feast_repo._online_store("rediss+cluster://reader:p%40ss@a:7000,b") == {
        "type": "redis",
        "redis_type": "redis_cluster",
        "connection_string": "a:7000,b:6379,ssl=true,username=reader,password=p@ss",
    }
    assert feast_repo._online_store("redis://store:7000/2") == {"type": "redis", "connection_string": "store:7000,db=2"}


def settings_of(directory: Path, password: str) -> PlatformSettings:
    return PlatformSettings(data_dir=directory, redis_url=f"redis://:{password}@127.0.0.1:6379/0")


def test_it_is_applied_once_for_each_address(tmp_path: Path) -> None:
    assert apply_declaration(settings_of(tmp_path, "first"), PLAN)
    assert not apply_declaration(settings_of(tmp_path, "first"), PLAN)
    assert apply_declaration(settings_of(tmp_path, "second"), PLAN)


def test_no_password_is_written(tmp_path: Path) -> None:
    apply_declaration(settings_of(tmp_path, "open-sesame"), PLAN)
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert written
    assert not any(b"open-sesame" in content for content in written)
