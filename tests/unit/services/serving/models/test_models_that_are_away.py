"""What cannot be had now is done without, said, and tried again."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest

from flywheel.adapters.last_good_models import LastGoodModels
from flywheel.adapters.memory_model_store import MemoryModelStore
from flywheel.adapters.onnx_scorer import OnnxScorer
from flywheel.contracts.models import Deployment, ModelManifest
from flywheel.kernel.ports import CorruptModel
from services.serving.models.line_up import Models
from tests.line_up_scene import flipped, following, versions
from tests.serving_parts import USECASE, deploy, publish


def test_at_the_start_an_earlier_model_is_better_than_none(store: MemoryModelStore) -> None:
    publish(store, "v1")
    publish(store, "v2", bias=-2.0)
    deploy(store, "v1")
    deploy(store, "v2")
    flipped(store, "v2")
    models = following(store)
    models.refresh()
    models.refresh()
    assert versions(models) == ["v1"]
    assert models.lineup().sequence == 1


def test_at_the_start_a_champion_goes_on_without_a_broken_challenger(store: MemoryModelStore) -> None:
    publish(store, "v1")
    publish(store, "v2", bias=-2.0)
    deploy(store, "v1", challenger="v2", share=0.5)
    flipped(store, "v2")
    models = following(store)
    models.refresh()
    assert versions(models) == ["v1"]
    assert models.lineup().pick("c1").arm == "champion"


def test_a_store_that_cannot_be_read_changes_nothing_and_is_read_again() -> None:
    class Unreadable(MemoryModelStore):
        broken = False

        def current(self, usecase: str) -> Deployment | None:
            if self.broken:
                raise OSError("input/output error")
            return super().current(usecase)

    unreadable = Unreadable()
    models = following(unreadable)
    publish(unreadable, "v1")
    deploy(unreadable, "v1")
    models.refresh()
    publish(unreadable, "v2")
    deploy(unreadable, "v2")
    unreadable.broken = True
    models.refresh()
    assert versions(models) == ["v1"]
    unreadable.broken = False
    models.refresh()
    assert versions(models) == ["v2"]


@pytest.mark.parametrize("error", [OSError("input/output error"), KeyError("not yet"), CorruptModel("half")])
@pytest.mark.parametrize(
    "roles", [{}, {"challenger": "v1", "share": 0.1}, {"canary": "v3", "canary_share": 0.2, "shadow": "v1"}]
)
def test_what_cannot_be_had_for_a_moment_is_tried_again_until_it_is_there(
    store: MemoryModelStore, error: Exception, roles: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    models = following(store)
    for version in ("v1", "v2", "v3"):
        publish(store, version)
    deploy(store, "v1")
    models.refresh()
    deploy(store, "v2", **roles)
    away = Away(store, {"v2": 4, "v3": 3}, error)
    monkeypatch.setattr(store, "load", away)
    for _ in range(8):
        models.refresh()
        assert versions(models) == ["v1"]
    assert "deployment 2 is held back; v2: " + type(error).__name__ in models.detail
    assert away.tries["v2"] == 3
    for _ in range(100):
        models.refresh()
    assert versions(models) == ["v2", *(version for version in roles.values() if isinstance(version, str))]
    assert models.detail == "model v2"


@pytest.mark.parametrize("role", [{"canary": "v2", "canary_share": 0.2}, {"shadow": "v2"}])
def test_at_the_start_a_role_that_is_missing_is_named_and_comes_later(
    store: MemoryModelStore, role: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    models = following(store)
    for version in ("v1", "v2"):
        publish(store, version)
    deploy(store, "v1", **role)
    monkeypatch.setattr(store, "load", Away(store, {"v2": 2}, OSError("input/output error")))
    models.refresh()
    assert versions(models) == ["v1"]
    assert f"degraded: without {next(iter(role))} v2; v2: OSError" in models.detail
    for _ in range(10):
        models.refresh()
    assert versions(models) == ["v1", "v2"]
    assert models.detail == "model v1"


async def test_the_follower_outlives_whatever_a_look_at_the_log_raises(
    store: MemoryModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = following(store)
    publish(store, "v1")
    deploy(store, "v1")
    real = store.current
    raised: list[str] = []

    def current(usecase: str) -> Deployment | None:
        if len(raised) < 3:
            raised.append(usecase)
            raise RuntimeError("nobody foresaw it")
        return real(usecase)

    monkeypatch.setattr(store, "current", current)
    watching = asyncio.create_task(models.watch(0.001))
    async with asyncio.timeout(10):
        while versions(models) != ["v1"]:
            assert not watching.done()
            await asyncio.sleep(0.001)
    watching.cancel()


def test_a_copy_that_is_gone_when_the_store_is_back_ends_nothing(store: MemoryModelStore, tmp_path: Path) -> None:
    publish(store, "v1")
    deploy(store, "v1")
    kept = LastGoodModels(tmp_path)
    Models(USECASE, store, OnnxScorer, last_good=kept, on_swap=lambda: None).refresh()
    model = store.models.pop(("fraud", "v1"))
    models = Models(USECASE, store, OnnxScorer, last_good=kept, on_swap=lambda: None)
    models.refresh()
    store.models["fraud", "v1"] = model
    shutil.rmtree(tmp_path / "fraud" / "v1")
    models.refresh()
    assert versions(models) == ["v1"]
    assert "from the local copy" in models.detail


class Away:
    """The store's `load`, where each version is away for so many tries."""

    def __init__(self, store: MemoryModelStore, tries: dict[str, int], error: Exception) -> None:
        self._load = store.load
        self._left, self._error = tries, error
        self.tries = dict.fromkeys(tries, 0)

    def __call__(self, usecase: str, version: str) -> tuple[ModelManifest, bytes]:
        if version in self.tries:
            self.tries[version] += 1
        if self._left.get(version, 0) > 0:
            self._left[version] -= 1
            raise self._error
        return self._load(usecase, version)
