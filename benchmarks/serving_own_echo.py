"""The least that serving's own port does: every request comes back as it was."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Sequence

import uvloop

from flywheel.adapters.grpc_server.calls import Call
from flywheel.adapters.grpc_server.server import GrpcServer


def echo(calls: Sequence[Call]) -> None:
    """Answers each with its own message."""
    for call in calls:
        call.reply(call.message)


async def serve(port: int) -> None:
    """Answers for ever."""
    server = GrpcServer({"/floor.Floor/Ask": echo})
    await server.listen(f"127.0.0.1:{port}")
    gc.collect()
    gc.freeze()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
