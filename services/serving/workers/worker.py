"""One of several serving processes: `python -m services.serving.workers.worker CHANNEL`; the parent starts it."""

from __future__ import annotations

import signal
import socket
import sys

import uvloop
from prometheus_client.exposition import generate_latest

from flywheel.adapters import logs
from flywheel.adapters.worker_channel import ConnectionCounts, Heartbeat, Word, WorkerChannel
from services.serving.bootstrap import real_server
from services.serving.port.port import CannotServe
from services.serving.running import begin, told_to_stop
from services.serving.server import Server
from services.serving.settings import ServingSettings


async def work(settings: ServingSettings, channel: WorkerChannel) -> None:
    """Serves the connections that come through the channel, until told to stop or left alone."""
    told = told_to_stop()
    server, counts = real_server(settings), ConnectionCounts(channel)
    await begin(server, on_closed=counts.gone)
    channel.watch(lambda word, payload, connected: _hear(server, counts, word, payload, connected), told.set)
    channel.send(Word.READY, server.metrics_port.to_bytes(2, "big"))
    Heartbeat(channel, settings.heartbeat_s)
    await told.wait()
    await server.stop()
    # Counted to the end: the process that accepts keeps the sums of all.
    channel.send_all(Word.LAST_METRICS, generate_latest())


def _hear(
    server: Server, counts: ConnectionCounts, word: Word, payload: bytes, connected: socket.socket | None
) -> None:
    if word is Word.CONNECTION:
        if connected is not None:
            counts.came()
            server.adopt(connected)
        else:
            counts.dropped()
    elif word is Word.SHED:
        server.shed(int.from_bytes(payload, "big"))


def main() -> None:
    """Serves until told to stop."""
    settings = ServingSettings()
    logs.configure("serving", settings.log_level)
    # SIGHUP is for the process that accepts; a terminal that closes sends it to all.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        uvloop.run(work(settings, WorkerChannel.inherited(int(sys.argv[1]))))
    except CannotServe as error:
        sys.exit(f"serving cannot start: {error}")


if __name__ == "__main__":
    main()
