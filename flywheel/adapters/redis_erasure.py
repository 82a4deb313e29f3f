"""Removes one entity from the online store: every row of every view that names it, alone or together with others."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import redis
from redis.exceptions import ResponseError

from flywheel.adapters.feast_key_reader import join_keys
from flywheel.adapters.redis_address import own_key
from flywheel.adapters.redis_client import failing_as_unavailable
from flywheel.adapters.redis_cluster_client import open_client
from flywheel.kernel.ports import Lane, StoreProgress, Unavailable

_SCANNED_AT_ONCE = 1_000
_REWRITE_TIMEOUT_S = 60.0
_LOOK_AGAIN_S = 0.05
_SPECIAL = re.compile(rb"([*?\[\]^\\-])")


class RedisEraser:
    """Finds an entity's keys by looking at all of them; every call raises Unavailable when Redis does not answer."""

    def __init__(self, url: str, project: str) -> None:
        self._project = project
        self._progress_key = own_key(url, project, "progress")
        self._client = open_client(url)

    def count(self, entity: Mapping[str, str]) -> int:
        """How many keys name the entity, given by the values of its join keys."""
        return len(self._keys(entity))

    def remove(self, entity: Mapping[str, str]) -> int:
        """How many keys went; they are gone from the append-only file too, if Redis keeps one."""
        batch = self._client.batch()
        for key in self._keys(entity):
            batch.add("DEL", key)
        removed = sum(map(int, batch.execute()))
        for node in map(_Node, self._client.nodes()):
            if node.persistence().get("aof_enabled"):
                node.rewrite_file()
        return removed

    def progress(self) -> dict[Lane, StoreProgress]:
        """How far each lane that ever filled the store has come."""
        batch = self._client.batch()
        for lane in Lane:
            batch.add("HMGET", self._progress_key, f"{lane}_visible_until_us", f"{lane}_updated_us")
        told = zip(Lane, batch.execute(), strict=True)
        return {lane: StoreProgress(*map(int, values)) for lane, values in told if None not in values}

    def close(self) -> None:
        """Closes all connections."""
        self._client.close()

    def _keys(self, entity: Mapping[str, str]) -> list[bytes]:
        pattern = b"*" + _SPECIAL.sub(rb"\\\1", next(iter(entity.values())).encode()) + b"*"
        # A scan may give a key twice, and two nodes one that is on its way from one to the other.
        found = {raw for node in map(_Node, self._client.nodes()) for raw in node.keys(pattern)}
        return sorted(raw for raw in found if self._names(raw, entity))

    def _names(self, raw: bytes, entity: Mapping[str, str]) -> bool:
        found = join_keys(raw, self._project)
        return found is not None and entity.items() <= found.items()


class _Node:
    """One Redis, which keeps some of the keys, or all."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def keys(self, pattern: bytes) -> Iterator[bytes]:
        """Its keys that look so."""
        cursor = b"0"
        while True:
            cursor, keys = self._ask("SCAN", cursor, "MATCH", pattern, "COUNT", _SCANNED_AT_ONCE)
            yield from keys
            if int(cursor) == 0:
                return

    def persistence(self) -> Mapping[str, Any]:
        """What it says of its files."""
        found: Mapping[str, Any] = self._ask("INFO", "persistence")
        return found

    def rewrite_file(self) -> None:
        """A rewrite that is under way may have begun before, so one that begins now is waited for."""
        deadline_s = time.monotonic() + _REWRITE_TIMEOUT_S
        _await(lambda: not self._is_rewriting(), deadline_s)
        _await(self._began_rewriting, deadline_s)
        _await(lambda: not self._is_rewriting(), deadline_s)

    def _began_rewriting(self) -> bool:
        with failing_as_unavailable():
            try:
                self._client.execute_command("BGREWRITEAOF")  # type: ignore[no-untyped-call]
            except ResponseError:
                return False
            return True

    def _is_rewriting(self) -> bool:
        found = self.persistence()
        return bool(found.get("aof_rewrite_in_progress") or found.get("aof_rewrite_scheduled"))

    def _ask(self, *command: Any) -> Any:
        with failing_as_unavailable():
            return self._client.execute_command(*command)  # type: ignore[no-untyped-call]


def _await(condition: Callable[[], bool], deadline_s: float) -> None:
    while not condition():
        if time.monotonic() > deadline_s:
            raise Unavailable(f"the append-only file was not rewritten within {_REWRITE_TIMEOUT_S:g} s")
        time.sleep(_LOOK_AGAIN_S)
