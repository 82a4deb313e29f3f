"""A generator that stands still notices it."""

from __future__ import annotations

import asyncio
import time

from loadtests.generator.pulse import Pulse


async def test_a_stall_is_noted_with_its_moment_and_its_length() -> None:
    async with Pulse() as pulse:
        await asyncio.sleep(0.05)
        began_s = time.perf_counter()
        time.sleep(0.2)
        ended_s = time.perf_counter()
        await asyncio.sleep(0.05)
    assert pulse.longest_s(began_s, ended_s) > 0.15
    assert pulse.longest_s(ended_s + 10, ended_s + 20) == 0.0


async def test_a_stall_counts_for_every_stretch_that_it_touches() -> None:
    pulse = Pulse()
    pulse.stalls.append((10.0, 2.0))
    assert pulse.longest_s(8.0, 10.5) == 2.0
    assert pulse.longest_s(11.5, 13.0) == 2.0
    assert pulse.longest_s(12.5, 13.0) == 0.0
    assert pulse.longest_s(8.0, 9.9) == 0.0
