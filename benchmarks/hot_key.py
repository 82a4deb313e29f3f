"""A card that makes half of all payments: how much is kept of it, and whether reading it takes longer.

The same rate comes spread evenly over all cards, then half of it from one card, in turns, so that what else the
machine does falls on both.
"""

from __future__ import annotations

import gc
import random
import time
import uuid
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from benchmarks.stream_load import CARDS, Load
from flywheel.adapters.redis_store import RedisFeatureWriter
from flywheel.contracts.settings import PlatformSettings
from flywheel.kernel.fold import Reading
from flywheel.kernel.hydration import opened
from flywheel.kernel.plan import FeaturePlan
from flywheel.kernel.ports import Stored, ViewKey

_TURNS = 3
_SETTLING_S = 1.0
_PAUSE_S = 0.005
_WITHIN_S = 60.0


class Case(NamedTuple):
    """Reads under one kind of load of one kind of card."""

    hot_load: bool
    hot_card: bool


def hot_key(settings: PlatformSettings, plan: FeaturePlan, rate: float, seconds: float) -> Mapping[str, float]:
    """Percentiles of reads by load and card, the hot card's largest size, and by how much its count is wrong."""
    store = RedisFeatureWriter(settings.redis_url, plan)
    reads = _Reads(store, plan, f"card-hot-{uuid.uuid4().hex}")
    wanted = 0
    for turn in range(2 * _TURNS):
        hot = reads.hot_card if turn % 2 else None
        with Load(settings.kafka_bootstrap, rate, hot=hot) as load:
            time.sleep(_SETTLING_S)
            reads.take(seconds / _TURNS / 2, hot_load=hot is not None)
        wanted += load.hot_payments
    error = _count_error(reads, wanted)
    store.close()
    return figures(reads.taken_ms) | {"hot_key_state_bytes": reads.largest, "hot_key_count_error": error}


def figures(taken_ms: Mapping[Case, list[float]]) -> dict[str, float]:
    """The 99th percentiles and their ratios to that of ordinary cards under even load."""
    p99 = {case: float(np.percentile(taken, 99)) for case, taken in taken_ms.items()}
    even, hot, other = p99[Case(False, False)], p99[Case(True, True)], p99[Case(True, False)]
    return {
        "hot_key_p99_ratio": hot / even,
        "hot_key_others_p99_ratio": other / even,
        "hot_key_p99_ms": hot,
        "hot_key_others_p99_ms": other,
        "hot_key_even_load_p99_ms": even,
        "hot_key_reads": len(taken_ms[Case(True, True)]),
    }


class _Reads:
    def __init__(self, store: RedisFeatureWriter, plan: FeaturePlan, hot_card: str) -> None:
        (self._view,) = [view for view in plan.views if view.entity.name == "card"]
        self._count = [feature.name for feature in self._view.features].index("card_transaction_count_24h")
        self._reading, self._store, self._rng = Reading(self._view), store, random.Random(3)
        self.hot_card = hot_card
        self.largest = 0
        self.taken_ms: dict[Case, list[float]] = {Case(a, b): [] for a in (False, True) for b in (False, True)}

    def take(self, seconds: float, *, hot_load: bool) -> None:
        """Reads the hot card and some other in turns."""
        gc.freeze()
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            for hot_card in (True, False):
                card = self.hot_card if hot_card else f"card-{self._rng.randrange(CARDS)}"
                began_s = time.perf_counter()
                stored, _ = self.read(card)
                self.taken_ms[Case(hot_load, hot_card)].append((time.perf_counter() - began_s) * 1e3)
                if hot_card:
                    self.largest = max(self.largest, len(stored.state or b"") + len(stored.edge or b""))
            time.sleep(_PAUSE_S)
        gc.unfreeze()

    def read(self, card: str) -> tuple[Stored, float]:
        """What is stored of the card, and its payments of the last day."""
        (stored,) = self._store.read([ViewKey(self._view.name, card)])
        state, arrived = opened(self._view, stored)
        values = self._reading.values(state, arrived, time.time_ns() // 1000)
        return stored, float(values[self._count])


def _count_error(reads: _Reads, wanted: int) -> float:
    """By how much the hot card's count differs from what was sent, once everything had time to come."""
    deadline_s = time.monotonic() + _WITHIN_S
    while (found := reads.read(reads.hot_card)[1]) != wanted and time.monotonic() < deadline_s:
        time.sleep(0.05)
    return abs(found - wanted)
