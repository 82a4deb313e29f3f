"""Plays the world live: each request event first asks for its decision, then goes to ingest, in time order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol

from flywheel.adapters.logs import logger
from flywheel.client.deliveries import Deliveries, Delivery
from flywheel.client.errors import ClientError
from flywheel.client.ledger import FAILED, Ledger
from flywheel.client.schedule import Schedule
from flywheel.client.sender import Sender
from flywheel.contracts.metrics import WORLD_BEHIND_SECONDS, WORLD_DECISIONS
from flywheel.contracts.proto.decision_pb2 import DecideResponse

_GATHER_S = 0.05
_MOST_AT_ONCE = 500
_QUESTIONS_IN_FLIGHT = 256
_LOOK_UP_S = 0.2
_COMPLAIN_EVERY_S = 10.0

_log = logger(__name__)


class Decider(Protocol):
    """Whom to ask for decisions."""

    async def decide(self, usecase: str, event: Mapping[str, Any]) -> DecideResponse: ...


@dataclass(frozen=True, slots=True)
class _Step:
    """A delivery on its way, the position after it, and the decision it waits for."""

    delivery: Delivery
    day: int
    next_index: int
    asked: asyncio.Task[None] | None


class LivePlay:
    """One run of the live world, from where the ledger stands until it is stopped.

    `speed` is event seconds per wall second; at most `queued` deliveries wait for ingest, then event time waits too.
    """

    def __init__(
        self,
        deliveries: Deliveries,
        sender: Sender,
        ledger: Ledger,
        decider: Decider | None,
        *,
        usecase: str,
        speed: float,
        queued: int,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._deliveries = deliveries
        self._sender = sender
        self._ledger = ledger
        self._decider = decider
        self._usecase = usecase
        self._speed = speed
        self._wall = wall
        self._stopping = False
        self._in_flight = 0
        self._queue: asyncio.Queue[_Step | None] = asyncio.Queue(queued)
        self._behind = WORLD_BEHIND_SECONDS.labels(usecase)
        self._complained_s = self._doubted_s = float("-inf")

    def stop(self) -> None:
        """No new events from now on; those under way are still sent."""
        self._stopping = True

    async def run(self) -> None:
        """Plays until `stop`, then returns when everything under way is sent. An error of either side ends both."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._produce())
                tasks.create_task(self._send())
        except ExceptionGroup as group:
            raise group.exceptions[0] from group

    async def _produce(self) -> None:
        schedule: Schedule | None = None
        async with aclosing(self._upcoming()) as upcoming:
            async for delivery, day, index in upcoming:
                if schedule is None:
                    monotonic = asyncio.get_running_loop().time
                    schedule = Schedule(self._speed, delivery.at_us, monotonic=monotonic, wall=self._wall)
                await self._until_due(schedule, delivery.at_us)
                if self._stopping:
                    break
                await self._queue.put(_Step(delivery, day, index + 1, self._ask(delivery)))
        await self._queue.put(None)

    async def _upcoming(self) -> AsyncGenerator[tuple[Delivery, int, int], None]:
        """Deliveries from the ledger's position on, with their day and index; plans the next day while one runs."""
        number, first = self._ledger.day, self._ledger.index
        planned = await asyncio.to_thread(self._plan, number)
        while not self._stopping:
            following = asyncio.create_task(asyncio.to_thread(self._plan, number + 1))
            try:
                for index in range(first, len(planned)):
                    yield planned[index], number, index
            finally:
                planned = await following
            number, first = number + 1, 0

    def _plan(self, number: int) -> list[Delivery]:
        planned, day = self._deliveries.of_day(number)
        self._ledger.reveal(day)
        return planned

    async def _until_due(self, schedule: Schedule, at_us: int) -> None:
        while not self._stopping:
            wait_s = schedule.wait_s(at_us)
            if wait_s <= 0:
                break
            await asyncio.sleep(min(wait_s, _LOOK_UP_S))
        slipped = schedule.slip()
        self._behind.set(schedule.behind_s)
        now_s = asyncio.get_running_loop().time()
        if slipped and now_s - self._complained_s >= _COMPLAIN_EVERY_S:
            self._complained_s = now_s
            _log.warning("world_behind_schedule", behind_s=round(schedule.behind_s, 1))

    def _ask(self, delivery: Delivery) -> asyncio.Task[None] | None:
        if self._decider is None or not delivery.asks:
            return None
        if self._in_flight >= _QUESTIONS_IN_FLIGHT:
            self._decided(FAILED, f"{self._in_flight} decisions are awaited already")
            return None
        self._in_flight += 1
        return asyncio.create_task(self._await_decision(self._decider, delivery))

    async def _await_decision(self, decider: Decider, delivery: Delivery) -> None:
        try:
            response = await decider.decide(self._usecase, delivery.fields)
        except ClientError as error:
            # The world goes on whatever serving does: the payment happens all the same.
            self._decided(FAILED, str(error))
        else:
            self._decided(response.action)
        finally:
            self._in_flight -= 1

    def _decided(self, action: str, doubt: str | None = None) -> None:
        self._ledger.decided(action)
        WORLD_DECISIONS.labels(self._usecase, action).inc()
        now_s = asyncio.get_running_loop().time()
        if doubt and now_s - self._doubted_s >= _COMPLAIN_EVERY_S:
            self._doubted_s = now_s
            _log.warning("decision_failed", reason=doubt)

    async def _send(self) -> None:
        ended = False
        while not ended:
            steps, ended = await self._gather()
            if not steps:
                continue
            asked = [step.asked for step in steps if step.asked]
            if asked:
                await asyncio.wait(asked)
            await self._sender.send(step.delivery for step in steps)
            last = steps[-1]
            self._ledger.advance(last.day, last.next_index, last.delivery.at_us)

    async def _gather(self) -> tuple[list[_Step], bool]:
        """What is due within a moment, and whether that was the last of it."""
        steps: list[_Step] = []
        step = await self._queue.get()
        if step is not None and not self._stopping:
            await asyncio.sleep(_GATHER_S)
        while step is not None:
            steps.append(step)
            if len(steps) == _MOST_AT_ONCE or self._queue.empty():
                return steps, False
            step = self._queue.get_nowait()
        return steps, True
