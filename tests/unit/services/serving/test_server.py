"""How long the end of a serving process takes when everything it waits for takes as long as it may."""

from __future__ import annotations

import asyncio
import time
from typing import Any, cast
from unittest.mock import Mock

from flywheel.adapters.memory_decision_log import MemoryDecisionLog
from services.serving.models.shadow import Shadow
from services.serving.server import Server
from services.serving.settings import ServingSettings
from tests.serving_parts import USECASE

DRAIN_S = 0.5


class Slow:
    """A part that needs all the time it is given."""

    in_flight = 0

    async def stop(self) -> None:
        await asyncio.sleep(DRAIN_S)

    async def close(self, timeout_s: float = 0.0) -> None:
        await asyncio.sleep(timeout_s)


class SlowTracing:
    def close(self, timeout_s: float) -> None:
        time.sleep(timeout_s)


PARTS = {name: Mock() for name in ("gate", "models", "reader", "log", "shadow", "inference", "warm_up")}


def slow_server() -> Server:
    parts = cast(Any, {name: Slow() for name in ("reader", "log", "shadow", "rest")})
    server = Server(
        ServingSettings(serving_drain_s=DRAIN_S),
        {},
        **parts,
        gate=Mock(),
        models=Mock(),
        inference=Mock(),
        tracing=cast(Any, SlowTracing()),
        warm_up=Mock(),
    )
    server._open = cast(Any, Slow())
    return server


def test_whose_event_loop_stands_still_is_not_ready_until_it_turns_again() -> None:
    gate, models = Mock(loop_stands_s=Mock(return_value=0.2)), Mock(detail="model v1")
    server = Server(ServingSettings(), {}, **cast(Any, {**PARTS, "gate": gate, "models": models}))
    server._answering = True
    assert server.ready() == (True, "model v1")
    gate.loop_stands_s.return_value = 2.5
    assert server.ready() == (False, "not answering: the event loop has stood still for 2.5 s")
    gate.loop_stands_s.return_value = 0.0
    assert server.ready() == (True, "model v1")


async def test_a_stop_takes_twice_the_drain_time_and_whoever_waits_for_it_waits_longer() -> None:
    server = slow_server()
    began_s = time.perf_counter()
    await server.stop()
    took_s = time.perf_counter() - began_s
    # Once for what is under way, once for what waits to be delivered; one after the other they would take five times.
    assert 2 * DRAIN_S - 0.05 < took_s < 3 * DRAIN_S
    assert took_s < ServingSettings(serving_drain_s=DRAIN_S).stop_within_s


async def test_a_shadow_whose_thread_does_not_end_leaves_its_log_what_is_left_of_the_time() -> None:
    given: list[float] = []

    class Log(MemoryDecisionLog):
        async def close(self, timeout_s: float) -> None:
            given.append(timeout_s)

    shadow = Shadow(USECASE, Mock(), Mock(), capacity=1, on_failed=Mock())
    shadow._log, shadow._thread = Log(on_acknowledged=Mock(), on_lost=Mock()), cast(Any, Mock(join=time.sleep))
    await shadow.close(0.2)
    assert given == [0.0]
