"""How a process that serves is told to stop, and how it begins."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Callable

from services.serving.port.port import CannotServe
from services.serving.server import Server


def told_to_stop() -> asyncio.Event:
    """Set by SIGTERM and SIGINT from now on, in the running loop."""
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    return told


async def begin(server: Server, on_closed: Callable[[], object] | None = None) -> None:
    """Starts it as `Server.start` says; what it had opened is closed again when it cannot. Raises CannotServe."""
    try:
        await server.start(on_closed=on_closed)
    except CannotServe:
        await server.stop()
        raise
    # What is loaded now stays; scanning it again and again would only make pauses.
    gc.collect()
    gc.freeze()
