"""How those who write to the online store speak to it, whether it is one Redis or a cluster."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, Protocol, TypeVar

import redis
from redis.exceptions import RedisError

from flywheel.adapters.redis_address import own_key
from flywheel.kernel.ports import Unavailable

TIMEOUT_S = 10.0
_T = TypeVar("_T")


class Batch(Protocol):
    """Commands that leave together. Those of one key are carried out in their order."""

    def add(self, *command: Any) -> None:
        """A command about one key, which is its first argument, or about several that may be in one call."""

    def call(self, script: str, keys: Sequence[Any], arguments: Sequence[Any]) -> None:
        """A script about keys that may be in one call."""

    def execute(self) -> list[Any]:
        """A reply for each command, in order. Raises Unavailable when one failed; others may have been carried out."""


class RedisClient(Protocol):
    """The online store's Redis. Every call raises Unavailable when it does not answer."""

    counters_pause_s: float
    """How long to wait between two looks at all counters."""

    def batch(self) -> Batch:
        """For commands that leave together."""

    def counted_keys(self, usecase: str) -> Sequence[str]:
        """Everywhere where something may have been counted."""

    def counted_key(self, usecase: str, entity: bytes) -> str:
        """Where that is counted which is written to an entity: both may be in one call."""

    def callable_together(self, entities: Mapping[_T, bytes]) -> list[list[_T]]:
        """What is written to these entities, in groups that may be in one call."""

    def scan(self, after: int, number: int) -> tuple[int, list[bytes]]:
        """About that many keys, and where to go on; it begins and ends with 0."""

    def nodes(self) -> list[redis.Redis]:
        """A client for each that keeps a part of the keys."""

    def close(self) -> None:
        """Closes all connections."""


class SingleRedis:
    """One Redis: any keys may be in one call."""

    counters_pause_s = 0.0

    def __init__(self, url: str) -> None:
        self._url = url
        self._client = redis.Redis.from_url(url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S)
        self._scripts: dict[str, Any] = {}

    def batch(self) -> Batch:
        """For commands that leave together."""
        return NodePipeline(self._client, self._scripts)

    def counted_keys(self, usecase: str) -> Sequence[str]:
        """The one place."""
        return [own_key(self._url, usecase, "counted")]

    def counted_key(self, usecase: str, entity: bytes) -> str:  # noqa: ARG002
        """The one place."""
        return own_key(self._url, usecase, "counted")

    def callable_together(self, entities: Mapping[_T, bytes]) -> list[list[_T]]:
        """All of them, in one group."""
        return [list(entities)] if entities else []

    def scan(self, after: int, number: int) -> tuple[int, list[bytes]]:
        """About that many keys, and where to go on."""
        with failing_as_unavailable():
            following, found = self._client.execute_command("SCAN", after, "COUNT", number)  # type: ignore[no-untyped-call]
        return int(following), found

    def nodes(self) -> list[redis.Redis]:
        """It alone."""
        return [self._client]

    def close(self) -> None:
        """Closes the connection."""
        self._client.close()


class NodePipeline:
    """Commands to one node, in one round trip."""

    def __init__(self, client: redis.Redis, scripts: dict[str, Any]) -> None:
        # Any, because the client's own annotations forbid keys of bytes.
        self._pipe: Any = client.pipeline(transaction=False)
        self._client = client
        self._scripts = scripts

    def add(self, *command: Any) -> None:
        """A command as it is."""
        self._pipe.execute_command(*command)

    def call(self, script: str, keys: Sequence[Any], arguments: Sequence[Any]) -> None:
        """A script, which is loaded before if need be."""
        if script not in self._scripts:
            # Scripts are forgotten when Redis starts again; a pipeline loads those it needs before it runs them.
            self._scripts[script] = self._client.register_script(script)
        self._scripts[script](keys=keys, args=arguments, client=self._pipe)

    def execute(self, *, raises: bool = True) -> list[Any]:
        """The replies; unless it raises, an error may stand in the place of one."""
        with failing_as_unavailable():
            return list(self._pipe.execute(raise_on_error=raises))


@contextmanager
def failing_as_unavailable() -> Iterator[None]:
    """Raises Unavailable for whatever Redis or the way to it fails with."""
    try:
        yield
    except (RedisError, OSError) as error:
        raise Unavailable(f"the feature store failed: {error}") from error


def batched(items: Sequence[_T], number: int) -> list[list[_T]]:
    """Some at a time."""
    left = iter(items)
    found = []
    while some := list(islice(left, number)):
        found.append(some)
    return found
