"""Measures the sides of a comparison in one process and in turns: a disturbance of the machine hits all alike."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Side(NamedTuple):
    """One of the things compared."""

    ask: Callable[[int], Any]
    """Does the request of that number; what it returns is to be awaited when the side is asynchronous."""
    asynchronous: bool


async def latencies_ms(sides: Mapping[str, Side], rounds: int, turn: int) -> dict[str, NDArray[np.float64]]:
    """How long each request of each side took, one at a time; `rounds * turn` of each.

    In a round each side has its turn of so many requests, and with every round another side goes first.
    """
    names = list(sides)
    taken: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        for place in range(len(names)):
            name = names[(number + place) % len(names)]
            taken[name] += await _turn_ms(sides[name], range(number * turn, (number + 1) * turn))
    return {name: np.array(each) for name, each in taken.items()}


async def _turn_ms(side: Side, numbers: range) -> list[float]:
    taken = []
    for number in numbers:
        began_s = time.perf_counter()
        if side.asynchronous:
            await side.ask(number)
        else:
            side.ask(number)
        taken.append((time.perf_counter() - began_s) * 1e3)
    return taken


async def rates_per_s(
    sides: Mapping[str, Side], *, in_flight: int, rounds: int, round_s: float
) -> dict[str, NDArray[np.float64]]:
    """Requests answered a second, by side and round, with so many in flight: as many tasks, or else threads."""
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        for name in list(sides)[:: 1 if number % 2 else -1]:
            side = sides[name]
            measure = _of_tasks if side.asynchronous else _of_threads
            rates[name].append(await measure(side, in_flight, round_s))
    return {name: np.array(each) for name, each in rates.items()}


@contextmanager
def frozen() -> Iterator[None]:
    """Meanwhile the collector does not look at anything that there is now, whichever side it belongs to."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


async def _of_tasks(side: Side, in_flight: int, round_s: float) -> float:
    until_s = time.perf_counter() + round_s

    async def ask(first: int) -> int:
        number = first
        while time.perf_counter() < until_s:
            await side.ask(number)
            number += in_flight
        return (number - first) // in_flight

    began_s = time.perf_counter()
    answered = sum(await asyncio.gather(*(ask(first) for first in range(in_flight))))
    return answered / (time.perf_counter() - began_s)


async def _of_threads(side: Side, in_flight: int, round_s: float) -> float:
    until_s = time.perf_counter() + round_s

    def ask(first: int) -> int:
        number = first
        while time.perf_counter() < until_s:
            side.ask(number)
            number += in_flight
        return (number - first) // in_flight

    with ThreadPoolExecutor(in_flight) as threads:
        began_s = time.perf_counter()
        answered = sum(threads.map(ask, range(in_flight)))
        return answered / (time.perf_counter() - began_s)
