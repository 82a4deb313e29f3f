"""A caller that asks by one connection at a steady rate, whatever becomes of the earlier calls, and notes each end."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc

from flywheel.contracts.proto.decision_pb2 import DecideRequest
from flywheel.contracts.proto.decision_pb2_grpc import DecisionsStub

_TIMEOUT_S = 5.0
_ANSWERS = frozenset({"OK", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"})


@dataclass
class Calls:
    """How calls ended that have ended."""

    ended: list[tuple[float, str]] = field(default_factory=list)
    """When each was sent, by `time.monotonic`, and `OK` or the name of its status."""

    def lost(self, from_s: float = 0.0) -> list[tuple[float, str]]:
        """Of the calls sent from then on, those to which serving gave no answer.

        That it is too late, or that there is too much to do, is one: on a busy machine it may be so.
        """
        return [each for each in self.ended if each[0] >= from_s and each[1].partition(":")[0] not in _ANSWERS]

    def told(self) -> Counter[str]:
        """How many ended in each way."""
        return Counter(status for _, status in self.ended)


@asynccontextmanager
async def steady_calls(address: str, subject: Callable[[int], bytes], *, per_s: float) -> AsyncIterator[Calls]:
    """Decisions of `fraud` asked for until the end of the block; those under way then are waited for."""
    calls, under_way = Calls(), set[asyncio.Task[None]]()
    async with grpc.aio.insecure_channel(address, options=[("grpc.enable_retries", 0)]) as channel:
        await channel.channel_ready()
        stub = DecisionsStub(channel)
        asking = asyncio.create_task(_ask(stub, subject, 1 / per_s, calls, under_way))
        try:
            yield calls
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            await asyncio.gather(*under_way)


async def _ask(
    stub: Any, subject: Callable[[int], bytes], every_s: float, calls: Calls, under_way: set[asyncio.Task[None]]
) -> None:
    began_s, number = time.monotonic(), 0
    while True:
        task = asyncio.create_task(_one(stub, subject(number), calls))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
        number += 1
        await asyncio.sleep(max(0.0, began_s + number * every_s - time.monotonic()))


async def _one(stub: Any, subject: bytes, calls: Calls) -> None:
    sent_s = time.monotonic()
    try:
        await stub.Decide(DecideRequest(usecase="fraud", subject=subject), timeout=_TIMEOUT_S)
    except grpc.aio.AioRpcError as error:
        calls.ended.append((sent_s, f"{error.code().name}: {error.details()}"))
    else:
        calls.ended.append((sent_s, "OK"))
