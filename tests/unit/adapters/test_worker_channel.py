"""What a worker tells of its connections, and what becomes of those that no worker takes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any, cast
from unittest.mock import Mock

from flywheel.adapters.grpc_server.server import GrpcServer
from flywheel.adapters.worker_channel import ConnectionCounts, Word, WorkerChannel
from flywheel.adapters.worker_pool import Worker, WorkerPool


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def test_the_numbers_of_connections_are_right_again_once_messages_are_read() -> None:
    near, far = WorkerChannel.pair()
    worker = WorkerChannel(far)
    counts = ConnectionCounts(worker)
    for _ in range(500):
        counts.came()
        counts.gone()
    told: list[tuple[int, int]] = []

    def hear(word: Word, payload: bytes, _: socket.socket | None) -> None:
        assert word is Word.COUNTS
        told.append((int.from_bytes(payload[:8], "big"), int.from_bytes(payload[8:], "big")))

    near.watch(hear, lambda: None)
    await until(lambda: told[-1:] == [(500, 500)])
    # Some were not taken, or this would prove nothing.
    assert len(told) < 1_000
    worker.close()
    near.close()
    far.close()


async def test_connections_that_no_worker_takes_wait_and_are_handed_over_later() -> None:
    pool = WorkerPool([], 1, start_timeout_s=1, stop_timeout_s=1, silence_s=10)
    channel = Mock(send=Mock(return_value=False))
    worker = Worker(0, Mock(), channel, started_s=0.0)
    worker.ready.set()
    pool.workers.append(worker)
    listener = Mock()
    pool._listener = cast(Any, listener)
    accepted, client = socket.socketpair()
    pool._hand_over(accepted)
    listener.pause.assert_called_once_with()
    assert worker.connections == 0
    channel.send.return_value = True
    await until(lambda: worker.connections == 1)
    listener.open.assert_called_once_with()
    assert accepted.fileno() != -1
    worker.hear_counts(taken=1, ended=0)
    assert (accepted.fileno(), worker.connections) == (-1, 1)
    worker.hear_counts(taken=1, ended=1)
    assert worker.connections == 0
    client.close()


async def test_only_clients_that_stay_are_asked_to_go() -> None:
    server = GrpcServer({})
    leaving, staying, other = Mock(is_leaving=True), Mock(is_leaving=False), Mock(is_leaving=False)
    server._shared.connections = cast(Any, {leaving, staying, other})
    server.shed(1)
    assert not leaving.depart.called
    assert staying.depart.call_count + other.depart.call_count == 1
    server._shared.connections = set()
    await server.drain(0.0)
