"""The load generator as a load test uses it, on a server that echoes.

In a process of its own (`python -m tests.load_generator ADDRESS`) it says `begun`, and at the end its figures.
"""

from __future__ import annotations

import asyncio
import sys
import time

from loadtests.findings import figures
from loadtests.generator.arrivals import constant
from loadtests.generator.grpc_pool import GrpcPool
from loadtests.generator.load import open_loop
from loadtests.generator.pulse import Pulse
from loadtests.result import Figures

RATE_PER_S, SECONDS = 400, 3.0
_METHOD = "/floor.Floor/Ask"


async def measured(address: str, begun: asyncio.Event | None = None) -> Figures:
    """Three seconds of steady load, as a load test sees it."""
    pool = GrpcPool(address, _METHOD, [b"x" * 100], connections=2)
    await pool.open()
    async with Pulse() as pulse:
        start_s = time.perf_counter() + 0.2
        if begun:
            begun.set()
        run = await open_loop(pool, constant(RATE_PER_S, SECONDS), seconds=SECONDS, start_s=start_s)
    await pool.close()
    return figures("echo", run, 50.0, pulse.longest_s(start_s, start_s + SECONDS) * 1e3)


async def _main() -> None:
    begun = asyncio.Event()
    running = asyncio.create_task(measured(sys.argv[1], begun))
    await begun.wait()
    print("begun", flush=True)
    print((await running).model_dump_json(), flush=True)


if __name__ == "__main__":
    asyncio.run(_main())
