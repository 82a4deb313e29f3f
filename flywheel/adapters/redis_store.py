"""The online feature store on Redis, in Feast's own layout: Feast's SDK reads what is written here."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import redis
import redis.asyncio
from redis.exceptions import RedisError

from flywheel.adapters import feast_layout
from flywheel.kernel.plan import FeaturePlan
from flywheel.kernel.ports import StoreProgress, Unavailable, ViewKey

_PROGRESS_FIELDS = ("visible_until_us", "updated_us")
_WRITE_TIMEOUT_S = 10.0
_MAX_US = 2**63


class _Layout:
    """Keys and fields of one use case."""

    def __init__(self, plan: FeaturePlan) -> None:
        self._project = plan.usecase.name
        self._join_keys = {view.name: view.entity.key for view in plan.views}
        self._state_fields = {
            view.name: feast_layout.value_field(view.name, feast_layout.state_feature(view.entity.name))
            for view in plan.views
        }
        self.progress_key = f"{self._project}:progress"
        self.counted_key = f"{self._project}:counted"
        self.source_key = f"{self._project}:source"

    def place(self, key: ViewKey) -> tuple[bytes, bytes]:
        """Redis key and hash field of a state."""
        entity_key = feast_layout.entity_key(self._project, self._join_keys[key.view], key.entity_id)
        return entity_key, self._state_fields[key.view]

    def fields(self, key: ViewKey, state: bytes, newest_us: int) -> tuple[bytes, bytes, bytes, bytes]:
        """Hash fields and their values, in turn."""
        return (
            self._state_fields[key.view],
            feast_layout.encode_value(state),
            feast_layout.time_field(key.view),
            feast_layout.encode_time(newest_us),
        )


class RedisFeatureReader:
    """Reads states for decisions: one pipelined round trip over a pool of connections.

    A read beyond `max_connections` at once waits for a connection, within its own timeout.
    """

    def __init__(self, url: str, plan: FeaturePlan, *, max_connections: int = 64) -> None:
        self._layout = _Layout(plan)
        # No timeout of the pool's own: each read's timeout covers the wait for a connection too.
        pool = redis.asyncio.BlockingConnectionPool.from_url(
            url, max_connections=max_connections, timeout=None, retry=None
        )
        self._client = redis.asyncio.Redis.from_pool(pool)

    async def read(self, keys: Sequence[ViewKey], timeout_s: float) -> tuple[list[bytes | None], StoreProgress | None]:
        """Packed states in the order of `keys` and the store's progress, None when it is missing or unreadable.

        Raises Unavailable when Redis fails or is late.
        """
        try:
            async with asyncio.timeout(timeout_s), self._client.pipeline(transaction=False) as pipe:
                for key in keys:
                    pipe.execute_command("HGET", *self._layout.place(key))
                pipe.execute_command("HMGET", self._layout.progress_key, *_PROGRESS_FIELDS)
                *states, progress = await pipe.execute()
        except TimeoutError as error:
            raise Unavailable(f"the feature store did not answer within {timeout_s} s") from error
        except (RedisError, OSError) as error:
            raise Unavailable(f"the feature store failed: {error}") from error
        return [_decoded(state) for state in states], _progress(progress)

    async def close(self) -> None:
        """Closes the pool."""
        await self._client.aclose()


class RedisFeatureWriter:
    """Writes states for the stream; every call raises Unavailable when Redis does not answer."""

    def __init__(self, url: str, plan: FeaturePlan) -> None:
        self._layout = _Layout(plan)
        self._client = redis.Redis.from_url(
            url, socket_timeout=_WRITE_TIMEOUT_S, socket_connect_timeout=_WRITE_TIMEOUT_S
        )

    def read(self, keys: Sequence[ViewKey]) -> list[bytes | None]:
        """Packed states in the order of `keys`, in one round trip."""
        pipe = self._pipeline(transaction=False)
        for key in keys:
            pipe.execute_command("HGET", *self._layout.place(key))
        return [_decoded(state) for state in _execute(pipe)]

    def write(self, states: Mapping[ViewKey, tuple[bytes, int]], counted: Mapping[str, int]) -> None:
        """Replaces the states and adds to the counters in one transaction."""
        pipe = self._pipeline(transaction=True)
        for key, (state, newest_us) in states.items():
            pipe.execute_command("HSET", self._layout.place(key)[0], *self._layout.fields(key, state, newest_us))
        for name, number in counted.items():
            pipe.hincrby(self._layout.counted_key, name, number)
        _execute(pipe)

    def counters(self) -> dict[str, int]:
        """Events counted so far, by `<view>.<event>`."""
        pipe = self._pipeline(transaction=False)
        pipe.hgetall(self._layout.counted_key)
        (found,) = _execute(pipe)
        return {name.decode(): int(number) for name, number in found.items()}

    def report(self, progress: StoreProgress) -> None:
        """Publishes how far the store is."""
        pipe = self._pipeline(transaction=False)
        values = (progress.visible_until_us, progress.updated_us)
        pipe.hset(self._layout.progress_key, mapping=dict(zip(_PROGRESS_FIELDS, values, strict=True)))
        _execute(pipe)

    def claim(self, source: str) -> str:
        """The id of the stream that fills this store: `source` if it had none before, which it then keeps."""
        pipe = self._pipeline(transaction=True)
        pipe.set(self._layout.source_key, source, nx=True)
        pipe.get(self._layout.source_key)
        return str(_execute(pipe)[1].decode())

    def source(self) -> str | None:
        """The id of the stream that fills this store; None for an empty one."""
        pipe = self._pipeline(transaction=False)
        pipe.get(self._layout.source_key)
        (found,) = _execute(pipe)
        return None if found is None else found.decode()

    def close(self) -> None:
        """Closes the connection."""
        self._client.close()

    def _pipeline(self, *, transaction: bool) -> Any:
        # Any, because the client's own annotations forbid keys of bytes.
        return self._client.pipeline(transaction=transaction)


def _execute(pipe: Any) -> list[Any]:
    try:
        return list(pipe.execute())
    except (RedisError, OSError) as error:
        raise Unavailable(f"the feature store failed: {error}") from error


def _decoded(value: bytes | None) -> bytes | None:
    return None if value is None else feast_layout.decode_value(value)


def _progress(values: Sequence[bytes | None]) -> StoreProgress | None:
    visible_until_us, updated_us = map(_microseconds, values)
    if visible_until_us is None or updated_us is None:
        return None
    return StoreProgress(visible_until_us, updated_us)


def _microseconds(value: bytes | None) -> int | None:
    try:
        found = None if value is None else int(value)
    except ValueError:
        return None
    return found if found is not None and abs(found) < _MAX_US else None
