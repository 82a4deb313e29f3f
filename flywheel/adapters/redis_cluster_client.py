"""How those who write to the online store speak to a Redis Cluster."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.exceptions import AskError, ClusterDownError, MovedError, NoScriptError, TryAgainError
from redis.retry import Retry

from flywheel.adapters.redis_address import Node, cluster_address, is_cluster
from flywheel.adapters.redis_client import TIMEOUT_S, Batch, NodePipeline, RedisClient, SingleRedis
from flywheel.adapters.redis_slots import Redirect, SlotTable, redirect_of, slot_of, tags
from flywheel.kernel.ports import Unavailable

_ATTEMPTS = 20
_PAUSE_S = 0.05
_NODE_BITS = 16
_T = TypeVar("_T")


def open_client(url: str) -> RedisClient:
    """The client for this address; nothing is connected yet. ValueError when it is no address."""
    return ClusterRedis(url) if is_cluster(url) else SingleRedis(url)


class ClusterRedis:
    """A cluster: only keys of one slot may be in one call, and each call goes to the node that has the slot."""

    counters_pause_s = 30.0
    """They are in as many places as there are slots."""

    def __init__(self, url: str) -> None:
        self._address = cluster_address(url)
        self._clients: dict[Node, redis.Redis] = {}
        self._scripts: dict[Node, dict[str, Any]] = defaultdict(dict)
        self._table: SlotTable | None = None

    def batch(self) -> Batch:
        """For commands that leave together, those to each node in one round trip."""
        return _ClusterBatch(self)

    def counted_keys(self, usecase: str) -> Sequence[str]:
        """One place for each slot."""
        return [_counted(tag, usecase) for tag in tags()]

    def counted_key(self, usecase: str, entity: bytes) -> str:
        """The place of the entity's slot."""
        return _counted(tags()[slot_of(entity)], usecase)

    def callable_together(self, entities: Mapping[_T, bytes]) -> list[list[_T]]:
        """What is written to these entities, in groups of one slot each."""
        found: dict[int, list[_T]] = defaultdict(list)
        for item, entity in entities.items():
            found[slot_of(entity)].append(item)
        return list(found.values())

    def scan(self, after: int, number: int) -> tuple[int, list[bytes]]:
        """About that many keys of one node after the other, and where to go on.

        What moves to a node that the walk has been to already is found by the next walk.
        """
        nodes = self._known_table().nodes
        cursor, place = after >> _NODE_BITS, after % (1 << _NODE_BITS)
        if place >= len(nodes):
            return 0, []
        pipe = self.pipeline(nodes[place])
        pipe.add("SCAN", cursor, "COUNT", number)
        ((following, found),) = self.executed(pipe)
        if int(following):
            return int(following) << _NODE_BITS | place, found
        return (place + 1) % len(nodes), found

    def nodes(self) -> list[redis.Redis]:
        """A client for each that has slots."""
        return [self._client(node) for node in self._known_table().nodes]

    def close(self) -> None:
        """Closes all connections."""
        for client in self._clients.values():
            client.close()

    def node(self, slot: int) -> Node:
        """Who has this slot."""
        node = self._known_table().node(slot)
        if node is None:
            self._table = None
            raise Unavailable(f"no node of the feature store has slot {slot}")
        return node

    def moved(self, redirect: Redirect) -> None:
        """A slot is elsewhere by now."""
        self._known_table().move(redirect.slot, redirect.node)

    def pipeline(self, node: Node) -> NodePipeline:
        """For commands to this node."""
        return NodePipeline(self._client(node), self._scripts[node])

    def executed(self, pipe: NodePipeline) -> list[Any]:
        """The replies and refusals of a node. When it fails, who has what is asked again before the next call."""
        try:
            return pipe.execute(raises=False)
        except Unavailable:
            self._table = None
            raise

    def _client(self, node: Node) -> redis.Redis:
        if node not in self._clients:
            self._clients[node] = redis.Redis.from_url(
                self._address.url(node),
                socket_timeout=TIMEOUT_S,
                socket_connect_timeout=TIMEOUT_S,
                # Once, because the node may have been started again since it was asked last.
                retry=Retry(NoBackoff(), 1),
            )
        return self._clients[node]

    def _known_table(self) -> SlotTable:
        # Several threads ask, and any of them may find that it is no longer true.
        table = self._table
        if table is None:
            table = self._table = self._told_table()
        return table

    def _told_table(self) -> SlotTable:
        failure: Unavailable | None = None
        for node in dict.fromkeys([*self._address.nodes, *self._clients]):
            pipe = self.pipeline(node)
            pipe.add("CLUSTER", "SLOTS")
            try:
                (told,) = pipe.execute()
            except Unavailable as error:
                failure = error
                continue
            return SlotTable(told, node)
        raise failure or Unavailable("the feature store has no nodes")


class _Command(NamedTuple):
    slot: int
    add_to: Callable[[NodePipeline], None]


class _ClusterBatch:
    def __init__(self, cluster: ClusterRedis) -> None:
        self._cluster = cluster
        self._commands: list[_Command] = []

    def add(self, *command: Any) -> None:
        self._commands.append(_Command(_slot(command[1]), lambda pipe: pipe.add(*command)))

    def call(self, script: str, keys: Sequence[Any], arguments: Sequence[Any]) -> None:
        self._commands.append(_Command(_slot(keys[0]), lambda pipe: pipe.call(script, keys, arguments)))

    def execute(self) -> list[Any]:
        """What is refused because its slot is elsewhere, or on its way, was not carried out: it is asked for again."""
        replies: list[Any] = [None] * len(self._commands)
        asked: Mapping[int, Node | None] = dict.fromkeys(range(len(replies)))
        for _ in range(_ATTEMPTS):
            asked, waits = self._round(asked, replies)
            if not asked:
                return replies
            if waits:
                time.sleep(_PAUSE_S)
        place = next(iter(asked))
        raise Unavailable(f"the feature store failed: {replies[place]}")

    def _round(self, asked: Mapping[int, Node | None], replies: list[Any]) -> tuple[dict[int, Node | None], bool]:
        """Asks for the replies in these places, of the node that is named or of who has the slot.

        Gives the places that are to be asked for again, and whether only after a pause.
        """
        parts: dict[Node, list[int]] = defaultdict(list)
        for place, node in asked.items():
            parts[node or self._cluster.node(self._commands[place].slot)].append(place)
        again: dict[int, Node | None] = {}
        waits = False
        for node, places in parts.items():
            for place, reply in zip(places, self._ask(node, places, asked), strict=True):
                replies[place] = reply
                if isinstance(reply, AskError):
                    again[place] = self._followed(reply, node)
                elif isinstance(reply, TryAgainError | ClusterDownError | NoScriptError):
                    again[place], waits = asked[place], True
                elif isinstance(reply, Exception):
                    raise Unavailable(f"the feature store failed: {reply}") from reply
        return dict(sorted(again.items())), waits

    def _ask(self, node: Node, places: Sequence[int], asked: Mapping[int, Node | None]) -> list[Any]:
        pipe, mine = self._cluster.pipeline(node), []
        for place in places:
            if asked[place] is not None:
                pipe.add("ASKING")
            mine += [False, True] if asked[place] is not None else [True]
            self._commands[place].add_to(pipe)
        return [reply for reply, is_mine in zip(self._cluster.executed(pipe), mine, strict=True) if is_mine]

    def _followed(self, error: AskError, asked: Node) -> Node | None:
        """The node that is to be asked just this once; None where the slot has moved for good."""
        is_moved = isinstance(error, MovedError)
        redirect = redirect_of(f"{'MOVED' if is_moved else 'ASK'} {error.args[0]}", asked)
        if redirect is None:
            raise Unavailable(f"the feature store failed: {error}") from error
        if redirect.is_asked:
            return redirect.node
        self._cluster.moved(redirect)
        return None


def _slot(key: Any) -> int:
    return slot_of(key if isinstance(key, bytes) else str(key).encode())


def _counted(tag: str, usecase: str) -> str:
    return f"{{{tag}}}:{usecase}:counted"
