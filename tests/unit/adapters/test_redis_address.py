"""Addresses of the online store: one Redis, or some nodes of a cluster."""

from __future__ import annotations

import pytest

from flywheel.adapters.redis_address import Node, cluster_address, is_cluster
from flywheel.adapters.redis_client import SingleRedis
from flywheel.adapters.redis_cluster_client import ClusterRedis, open_client
from flywheel.adapters.redis_cluster_connection import RedisClusterConnection, open_connection
from flywheel.adapters.redis_connection import RedisConnection

CLUSTER = "redis+cluster://127.0.0.1:7000,127.0.0.1:7001"
SINGLE = "redis://127.0.0.1:6379/0"


def test_all_nodes_share_scheme_and_login() -> None:
    address = cluster_address("rediss+cluster://reader:p%40ss%2C@[::1]:7000,store-2")
    assert address.nodes == [Node("[::1]", 7000), Node("store-2", 6379)]
    assert [address.url(node) for node in address.nodes] == [
        "rediss://reader:p%40ss%2C@[::1]:7000",
        "rediss://reader:p%40ss%2C@store-2:6379",
    ]


@pytest.mark.parametrize(
    "url",
    [
        "redis+cluster://",
        "redis+cluster://a,",
        "redis+cluster://a:x",
        "redis+cluster://a:0",
        "redis+cluster://a:99999",
        "redis+cluster://:7000",
        "redis+cluster://a/2",
        "redis+cluster://:secret@",
        SINGLE,
    ],
)
def test_what_is_no_address_of_a_cluster_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(ValueError, match=r"must be like redis\+cluster://") as caught:
        cluster_address(url)
    assert "secret" not in str(caught.value)


def test_the_address_says_which_of_both_is_spoken_to() -> None:
    assert (is_cluster(CLUSTER), is_cluster(SINGLE)) == (True, False)
    assert [type(open_connection(url)) for url in (CLUSTER, SINGLE)] == [RedisClusterConnection, RedisConnection]
    assert [type(open_client(url)) for url in (CLUSTER, SINGLE)] == [ClusterRedis, SingleRedis]
