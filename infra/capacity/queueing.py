"""Waiting in queues: what is known in closed form, and a simulation for what is not.

Times are in any one unit; `offered` is arrival rate times mean service time, in servers.
"""

from __future__ import annotations

import heapq
import math

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.float64]


def erlang_c(servers: int, offered: float) -> float:
    """Share of arrivals that wait in M/M/k.

    >>> erlang_c(1, 0.5)
    0.5
    """
    _check(servers, offered)
    blocked = 1.0
    for number in range(1, servers + 1):
        blocked = offered * blocked / (number + offered * blocked)
    return servers * blocked / (servers - offered * (1 - blocked))


def mean_wait_mmk(servers: int, offered: float, mean_service: float) -> float:
    """Mean wait in M/M/k."""
    return erlang_c(servers, offered) * mean_service / (servers - offered)


def mean_wait_mg1(offered: float, mean_service: float, variability: float) -> float:
    """Mean wait in M/G/1 (Pollaczek-Khinchine); `variability` is variance over squared mean of the service time.

    >>> mean_wait_mg1(0.5, 1.0, 1.0)
    1.0
    """
    _check(1, offered)
    return offered * (1 + variability) * mean_service / (2 * (1 - offered))


def lognormal(rng: np.random.Generator, mean: float, variability: float, count: int) -> Times:
    """Service times of that mean and that variance over squared mean, most of them short and a few long."""
    sigma = math.sqrt(math.log1p(variability))
    return rng.lognormal(math.log(mean) - sigma * sigma / 2, sigma, count)


def waits(rng: np.random.Generator, servers: int, rate: float, services: Times) -> Times:
    """What each arrival waits where all servers share one queue, first come first served; begins in an empty one."""
    arrivals = np.cumsum(rng.exponential(1 / rate, len(services)))
    free = [0.0] * servers
    found = np.empty(len(services))
    for index, (at, service) in enumerate(zip(arrivals.tolist(), services.tolist(), strict=True)):
        begins = max(at, free[0])
        found[index] = begins - at
        heapq.heapreplace(free, begins + service)
    return found


def waits_apart(rng: np.random.Generator, servers: int, rate: float, services: Times) -> Times:
    """The same where each server has a queue of its own and arrivals are dealt out at random."""
    return np.concatenate(
        [waits(rng, 1, rate / servers, share) for share in np.array_split(services, servers) if len(share)]
    )


def _check(servers: int, offered: float) -> None:
    if not 0 <= offered < servers:
        raise ValueError(f"{offered:g} of {servers} servers would be busy: the queue grows without end")
