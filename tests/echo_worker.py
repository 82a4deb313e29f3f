"""A worker that answers at once with its own process id: `python -m tests.echo_worker [fail|sleep] CHANNEL`.

With `fail` it ends at once, with `sleep` it never begins; SIGUSR1 blocks its event loop for good.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence

from flywheel.adapters.grpc_server.calls import Call
from flywheel.adapters.grpc_server.server import GrpcServer
from flywheel.adapters.worker_channel import ConnectionCounts, Heartbeat, Word, WorkerChannel
from tests.grpc_wire import PATH


def tell(calls: Sequence[Call]) -> None:
    """Says which process answers; a call that says `later` waits a while."""
    for call in calls:
        if call.message == b"later":
            asyncio.get_running_loop().call_later(0.2, call.reply, str(os.getpid()).encode())
        else:
            call.reply(str(os.getpid()).encode())


async def work(channel: WorkerChannel) -> None:
    """Until told to stop or left alone."""
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, lambda: time.sleep(3_600))
    counts = ConnectionCounts(channel)
    server = GrpcServer({PATH: tell}, on_closed=counts.gone)

    def hear(word: Word, payload: bytes, connected: socket.socket | None) -> None:
        if word is Word.CONNECTION and connected is not None:
            counts.came()
            server.adopt(connected)
        elif word is Word.SHED:
            server.shed(int.from_bytes(payload, "big"))

    channel.watch(hear, told.set)
    channel.send(Word.READY, (1).to_bytes(2, "big"))
    Heartbeat(channel, 0.2)
    await told.wait()
    await server.drain(5.0)
    channel.send_all(Word.LAST_METRICS, b"answered 1\n" * 10_000)


if __name__ == "__main__":
    if sys.argv[1] == "fail":
        sys.exit("asked to")
    if sys.argv[1] == "sleep":
        time.sleep(3_600)
    asyncio.run(work(WorkerChannel.inherited(int(sys.argv[-1]))))
