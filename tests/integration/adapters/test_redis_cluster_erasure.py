"""Erasing a person from a Redis Cluster: from whichever nodes, and from their files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flywheel.adapters.redis_erasure import RedisEraser
from flywheel.adapters.redis_layout import Layout
from flywheel.adapters.redis_store import RedisFeatureWriter
from flywheel.kernel.ports import Lane, StateWrite, Stored, StoreProgress, Unavailable, ViewKey
from tests.feature_stores import CARD, NOTHING, PLAN, TERMINAL
from tests.redis_cluster_scene import ClusterScene, formed_cluster

pytestmark = pytest.mark.engine

CARDS = [ViewKey(CARD.view, f"unmistakable-{number}") for number in range(60)]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[ClusterScene]:
    with formed_cluster(tmp_path) as made:
        yield made


def test_whoever_is_erased_is_gone_from_every_node_and_its_file(scene: ClusterScene, tmp_path: Path) -> None:
    writer, eraser = RedisFeatureWriter(scene.url, PLAN), RedisEraser(scene.url, "fraud")
    layout = Layout(scene.url, PLAN)
    cards = list({scene.port_of(layout.entity(key)): key for key in CARDS}.values())
    assert len(cards) == len(scene.ports)
    writer.write({key: StateWrite(b"state", 1) for key in (*cards, TERMINAL)})
    assert eraser.progress() == {}
    writer.absorb({0: 1}, None)
    writer.report(Lane.EDGE, StoreProgress(5, 7))
    assert eraser.progress() == {Lane.EDGE: StoreProgress(5, 7)}
    assert all(on_disk(tmp_path, port, b"unmistakable") for port in scene.ports)
    for key in cards:
        assert eraser.count({"card_id": key.entity_id}) == 1
        assert eraser.remove({"card_id": key.entity_id}) == 1
    assert not any(on_disk(tmp_path, port, b"unmistakable") for port in scene.ports)
    assert writer.read([*cards, TERMINAL]) == [*[NOTHING] * len(cards), Stored(b"state")]
    scene.kill(scene.ports[1])
    with pytest.raises(Unavailable):
        eraser.remove({"card_id": "whoever it is"})
    eraser.close()
    writer.close()


def on_disk(directory: Path, port: int, name: bytes) -> bool:
    return any(name in file.read_bytes() for file in (directory / str(port)).glob("**/appendonly*") if file.is_file())
