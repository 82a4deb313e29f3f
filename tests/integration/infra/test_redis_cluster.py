"""Nodes on this machine become one cluster, also where somebody had begun to make them one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from infra.local import redis_cluster
from infra.local.failures import CannotStart
from tests.engines import free_port
from tests.redis_cluster_scene import ClusterScene, started_nodes

pytestmark = pytest.mark.engine


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[ClusterScene]:
    with started_nodes(tmp_path) as made:
        yield made


def test_what_was_broken_off_is_finished_and_every_node_then_writes_through(scene: ClusterScene) -> None:
    redis_cluster._share(scene.node(scene.ports[0]), 0, 3)
    scene.form()
    told = scene.node(scene.ports[2]).execute_command("CLUSTER", "SLOTS")
    assert sorted((first, last, node[1]) for first, last, node, *_ in told) == [
        (0, 5460, scene.ports[0]),
        (5461, 10921, scene.ports[1]),
        (10922, 16383, scene.ports[2]),
    ]
    for port in scene.ports:
        found = scene.node(port).config_get("*")
        assert (found["appendonly"], found["appendfsync"]) == ("yes", "always")
        assert (found["maxmemory-policy"], found["cluster-require-full-coverage"]) == ("noeviction", "no")


def test_nodes_that_are_away_or_no_nodes_are_told(scene: ClusterScene, redis_server: str) -> None:
    with pytest.raises(CannotStart, match="cannot be made one cluster"):
        redis_cluster.form([*scene.ports[:2], free_port()])
    with redis.Redis.from_url(redis_server) as client:
        port = client.connection_pool.connection_kwargs["port"]
    with pytest.raises(CannotStart, match="cluster support disabled"):
        redis_cluster.form([port])
