"""Where the online store is: one Redis, or some nodes of a Redis Cluster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

_CLUSTER_SCHEMES = {"redis+cluster": "redis", "rediss+cluster": "rediss"}
_DEFAULT_PORT = 6379


class Node(NamedTuple):
    """A Redis that answers by itself or as a part of a cluster."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class ClusterAddress(NamedTuple):
    """A cluster: nodes to begin with, any of which knows all others, and what is the same for all of them."""

    nodes: Sequence[Node]
    scheme: str
    login: str
    """`user:password@`, as it stands in an address, or empty."""

    def url(self, node: Node) -> str:
        """The address of one node."""
        return f"{self.scheme}://{self.login}{node}"


def is_cluster(url: str) -> bool:
    """Whether the address is that of a cluster.

    >>> is_cluster("redis+cluster://127.0.0.1:7000,127.0.0.1:7001"), is_cluster("redis://127.0.0.1:6379/0")
    (True, False)
    """
    return url.partition("://")[0] in _CLUSTER_SCHEMES


def cluster_address(url: str) -> ClusterAddress:
    """ValueError unless it is `redis[s]+cluster://[[user]:password@]host[:port][,host[:port]]…`.

    >>> address = cluster_address("rediss+cluster://:secret@a:7000,b")
    >>> [address.url(node) for node in address.nodes]
    ['rediss://:secret@a:7000', 'rediss://:secret@b:6379']
    """
    scheme, _, rest = url.partition("://")
    login, at, hosts = rest.rpartition("@")
    nodes = [_node(host) for host in hosts.rstrip("/").split(",")]
    if scheme not in _CLUSTER_SCHEMES or any(node is None for node in nodes):
        # Not shown: it may hold a password.
        raise ValueError("the address of a cluster must be like redis+cluster://host:6379,host:6379")
    return ClusterAddress([node for node in nodes if node], _CLUSTER_SCHEMES[scheme], login + at)


def own_key(url: str, usecase: str, name: str) -> str:
    """The key under which a use case keeps something of its own; in a cluster all of these are on one node.

    >>> own_key("redis://127.0.0.1", "fraud", "marks"), own_key("redis+cluster://127.0.0.1", "fraud", "marks")
    ('fraud:marks', '{fraud}:marks')
    """
    return f"{{{usecase}}}:{name}" if is_cluster(url) else f"{usecase}:{name}"


def _node(host: str) -> Node | None:
    """None where it is no `host[:port]`."""
    try:
        parts = urlsplit(f"//{host}")
        port = _DEFAULT_PORT if parts.port is None else parts.port
    except ValueError:
        return None
    name = parts.hostname or ""
    is_plain = parts.netloc == host and "@" not in host and port > 0
    return Node(f"[{name}]" if ":" in name else name, port) if name and is_plain else None
