"""Reads from a Redis Cluster that are due within milliseconds: each command goes to the node that has its key."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from flywheel.adapters.logs import logger
from flywheel.adapters.redis_address import Node, cluster_address, is_cluster
from flywheel.adapters.redis_commands import Commands, pack, together
from flywheel.adapters.redis_connection import Connection, RedisConnection
from flywheel.adapters.redis_slots import SlotTable, redirect_of, slot_of
from flywheel.adapters.redis_wire import NodeAway, RefusedCommand, late
from flywheel.kernel.breaker import CircuitBreaker
from flywheel.kernel.ports import Unavailable

_log = logger(__name__)

_ASKING = pack(("ASKING",)).payload
_SLOTS = pack(("CLUSTER", "SLOTS"))
_ROUNDS = 4
"""Enough for a slot that was moved and is being moved again."""
_TELL_TIMEOUT_S = 1.0
_TOLD_EVERY_S = 0.5
_FAILURES_TO_OPEN = 3
_FAILING_OVER_S = 0.1
_RETRY_AFTER_S = 0.1
_PATIENCE_S = 0.01
_NOT_NOW = ("CLUSTERDOWN", "LOADING", "MASTERDOWN", "TRYAGAIN")


def open_connection(url: str) -> Connection:
    """The way to the store at this address; nothing is connected yet. ValueError when it is no address."""
    return RedisClusterConnection(url) if is_cluster(url) else RedisConnection(url)


class RedisClusterConnection:
    """A connection to each node, which comes with the first call that needs it.

    Bound to the event loop of its first call. Who has what is asked of any node that answers, with the first call and
    again after a node failed or sent a call elsewhere.
    """

    def __init__(self, url: str) -> None:
        self._address = cluster_address(url)
        self._nodes: dict[Node, _GuardedNode] = {}
        self._table: SlotTable | None = None
        self._telling: asyncio.Task[None] | None = None
        self._told_at_s = 0.0
        self._failure = "there is no connection"
        self._closed = False

    async def execute(self, commands: Commands, timeout_s: float) -> list[Any]:
        """One reply for each command, in order, or a RefusedCommand in its place: NodeAway where its node failed.

        Raises Unavailable when no node answers in time.
        """
        clock = asyncio.get_running_loop().time
        until_s = clock() + timeout_s
        if self._table is None:
            await self._wait_for_table(timeout_s)
        replies: list[Any] = [None] * commands.replies
        asked: Mapping[int, Node | None] = dict.fromkeys(range(commands.replies))
        for _ in range(_ROUNDS):
            asked = await self._round(commands.apart, asked, replies, until_s - clock())
            if not asked:
                break
        for place in asked:
            replies[place] = NodeAway(f"it was sent from node to node: {replies[place]}")
        if self._nodes and all(node.is_failing for node in self._nodes.values()):
            raise Unavailable(f"the feature store failed: {self._failure}")
        return replies

    async def close(self) -> None:
        """Ends all connections; calls under way fail."""
        self._closed = True
        if self._telling is not None:
            self._telling.cancel()
            await asyncio.wait((self._telling,))
        for node in self._nodes.values():
            await node.close()

    async def _round(
        self, commands: Sequence[bytes], asked: Mapping[int, Node | None], replies: list[Any], timeout_s: float
    ) -> dict[int, Node | None]:
        """Asks for the replies in these places, of the node that is named or of who has the slot.

        Gives the places that were sent elsewhere, with the node that is to be asked just this once, if there is one.
        """
        parts: dict[Node, list[int]] = defaultdict(list)
        for place, named in asked.items():
            node = named or self._node(commands[place])
            if node is None:
                replies[place] = NodeAway("no node has the slot")
                self._tell_again()
            else:
                parts[node].append(place)
        found = await asyncio.gather(
            *(
                self._ask(node, [(commands[place], asked[place] is not None) for place in places], timeout_s)
                for node, places in parts.items()
            )
        )
        again: dict[int, Node | None] = {}
        for (node, places), answers in zip(parts.items(), found, strict=True):
            for place, reply in zip(places, answers, strict=True):
                replies[place] = reply
                if isinstance(reply, RefusedCommand):
                    self._refused(place, reply, node, replies, again)
        return again

    async def _ask(self, node: Node, commands: Sequence[tuple[bytes, bool]], timeout_s: float) -> list[Any]:
        """The replies of one node; of each command whether it is asked for although the node has not its slot yet."""
        packed = [part for command, asking in commands for part in ((_ASKING, command) if asking else (command,))]
        mine = [is_mine for _, asking in commands for is_mine in ((False, True) if asking else (True,))]
        try:
            found = await self._connected(node).execute(together(packed), timeout_s)
        except Unavailable as error:
            self._failure = str(error)
            self._tell_again()
            return [NodeAway(self._failure)] * len(commands)
        return [reply for reply, is_mine in zip(found, mine, strict=True) if is_mine]

    def _refused(
        self, place: int, refusal: RefusedCommand, node: Node, replies: list[Any], again: dict[int, Node | None]
    ) -> None:
        said = str(refusal)
        redirect = redirect_of(said, node)
        if redirect is None:
            if said.startswith(_NOT_NOW):
                replies[place] = NodeAway(said)
                self._tell_again()
            return
        again[place] = redirect.node if redirect.is_asked else None
        if not redirect.is_asked and self._table is not None:
            self._table.move(redirect.slot, redirect.node)
            self._tell_again()

    def _node(self, command: bytes) -> Node | None:
        return None if self._table is None else self._table.node(slot_of(_key_of(command)))

    def _connected(self, node: Node) -> _GuardedNode:
        if node not in self._nodes:
            self._nodes[node] = _GuardedNode(self._address.url(node))
        return self._nodes[node]

    async def _wait_for_table(self, timeout_s: float) -> None:
        if self._closed:
            raise Unavailable("the connection to the feature store is closed")
        self._tell_again()
        if self._telling is not None:
            # Others may wait for the same answer: it is waited for when this call gives up, too.
            await asyncio.wait((self._telling,), timeout=timeout_s)
        if self._table is None:
            if self._telling is not None:
                raise late(timeout_s)
            raise Unavailable(f"the feature store failed: {self._failure}")

    def _tell_again(self) -> None:
        """Has the table told anew, beside the calls; not too often while there is one."""
        loop = asyncio.get_running_loop()
        is_early = self._table is not None and loop.time() < self._told_at_s + _TOLD_EVERY_S
        if self._telling is None and not is_early and not self._closed:
            self._told_at_s = loop.time()
            self._telling = loop.create_task(self._tell())

    async def _tell(self) -> None:
        try:
            for node in dict.fromkeys([*self._nodes, *self._address.nodes]):
                try:
                    (told,) = await self._connected(node).execute(_SLOTS, _TELL_TIMEOUT_S)
                    if isinstance(told, RefusedCommand):
                        raise Unavailable(str(told))
                except Unavailable as error:
                    self._failure = str(error)
                    continue
                self._table = SlotTable(told, node)
                await self._leave_others(node)
                return
            _log.warning("feature_store_topology_unknown", error=self._failure)
        finally:
            self._telling = None

    async def _leave_others(self, answered: Node) -> None:
        """Ends the connections to nodes that have no slot any more."""
        wanted = {answered, *(self._table.nodes if self._table else ())}
        for node in [each for each in self._nodes if each not in wanted]:
            await self._nodes.pop(node).close()


class _GuardedNode:
    """The connection to one node; while that does not answer, nobody waits for it but a trial now and then."""

    def __init__(self, url: str) -> None:
        self._connection = RedisConnection(url)
        self._breaker = CircuitBreaker(_FAILURES_TO_OPEN, _FAILING_OVER_S, _RETRY_AFTER_S)
        self.is_failing = False
        """Whether it did not answer when it was asked last."""

    async def execute(self, commands: Commands, timeout_s: float) -> list[Any]:
        """As the connection; Unavailable at once while the breaker is open."""
        clock = asyncio.get_running_loop().time
        if not self._breaker.admits(clock()):
            raise Unavailable("the node has stopped answering")
        try:
            found = await self._connection.execute(commands, timeout_s)
        except Unavailable:
            # A timeout that is shorter proves nothing about the node.
            if timeout_s >= _PATIENCE_S:
                self.is_failing = True
                self._breaker.failed(clock())
            raise
        self.is_failing = False
        self._breaker.succeeded()
        return found

    async def close(self) -> None:
        """Ends the connection."""
        await self._connection.close()


def _key_of(command: bytes) -> bytes:
    """The first argument of a packed command.

    >>> _key_of(pack(("HMGET", "a key", "field")).payload)
    b'a key'
    """
    *_, length, rest = command.split(b"\r\n", 4)
    return rest[: int(length[1:])]
