"""A stream goes on only with what it filled itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flywheel.adapters.memory_store import MemoryFeatureStore
from flywheel.adapters.spark_checkpoint import Checkpoint, LostTrack
from tests.serving_parts import PLAN


def started(directory: Path, query_id: str = "q1") -> Checkpoint:
    directory.mkdir(exist_ok=True)
    (directory / "metadata").write_text(json.dumps({"id": query_id}))
    return Checkpoint(directory, "f1")


def commit(directory: Path) -> None:
    (directory / "commits").mkdir(exist_ok=True)
    (directory / "commits" / "0").write_text("v1")


def test_a_new_stream_fills_an_empty_store(tmp_path: Path) -> None:
    store = MemoryFeatureStore(PLAN)
    Checkpoint(tmp_path / "c", "f1").check(store, "the store")
    started(tmp_path / "c").claim(store, "the store")
    assert store.source() == "q1/f1"


def test_it_goes_on_with_its_own_store(tmp_path: Path) -> None:
    store = MemoryFeatureStore(PLAN)
    checkpoint = started(tmp_path)
    checkpoint.claim(store, "the store")
    commit(tmp_path)
    checkpoint.claim(store, "the store")


def test_a_batch_that_claimed_and_was_not_committed_may_come_again(tmp_path: Path) -> None:
    store = MemoryFeatureStore(PLAN)
    checkpoint = started(tmp_path)
    checkpoint.claim(store, "the store")
    checkpoint.check(store, "the store")


@pytest.mark.parametrize(
    ("source", "query", "committed", "reason"),
    [
        ("q1/f1", None, False, "is gone"),
        (None, "q1", True, "is empty"),
        ("q0/f1", "q1", True, "another checkpoint"),
        ("q1/f0", "q1", True, "another checkpoint or declaration"),
    ],
)
def test_it_refuses_anything_else(
    tmp_path: Path, source: str | None, query: str | None, committed: bool, reason: str
) -> None:
    store = MemoryFeatureStore(PLAN)
    if source:
        store.claim(source)
    checkpoint = started(tmp_path, query) if query else Checkpoint(tmp_path, "f1")
    if committed:
        commit(tmp_path)
    with pytest.raises(LostTrack, match=f"the store .*{reason}|{reason}.* the store"):
        checkpoint.check(store, "the store")


def test_a_new_query_begins_where_it_was_told_until_it_has_finished_something(tmp_path: Path) -> None:
    checkpoint = started(tmp_path / "c")
    assert checkpoint.beginning == {}
    checkpoint.begin_anew({"topic": {"0": 5}})
    assert checkpoint.identity is None
    assert checkpoint.beginning == {"topic": {"0": 5}}
    started(tmp_path / "c", "q2")
    assert checkpoint.beginning == {"topic": {"0": 5}}
    commit(tmp_path / "c")
    assert checkpoint.beginning == {}
