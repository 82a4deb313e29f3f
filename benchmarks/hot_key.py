"""A card that makes half of all payments: how much is kept of it, and whether reading it takes longer."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Mapping

import numpy as np

from benchmarks.stream_load import Load
from flywheel.adapters.redis_store import RedisFeatureWriter
from flywheel.contracts.settings import PlatformSettings
from flywheel.kernel.fold import Reading
from flywheel.kernel.hydration import opened
from flywheel.kernel.plan import FeaturePlan
from flywheel.kernel.ports import ViewKey

_HOT = "card-hot"


def hot_key(settings: PlatformSettings, plan: FeaturePlan, rate: float, seconds: float) -> Mapping[str, float]:
    """Reads of the hot card and of others in turns, under the load; the state's largest size."""
    (view,) = [view for view in plan.views if view.entity.name == "card"]
    reading, store, rng = Reading(view), RedisFeatureWriter(settings.redis_url, plan), random.Random(3)
    taken: dict[bool, list[float]] = {True: [], False: []}
    largest = 0
    with Load(settings.kafka_bootstrap, rate, hot=_HOT):
        gc.freeze()
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            for hot in (True, False):
                key = ViewKey(view.name, _HOT if hot else f"card-{rng.randrange(5_000)}")
                began_s = time.perf_counter()
                (stored,) = store.read([key])
                state, arrived = opened(view, stored)
                reading.values(state, arrived, time.time_ns() // 1000)
                taken[hot].append((time.perf_counter() - began_s) * 1e3)
                if hot:
                    largest = max(largest, len(stored.state or b"") + len(stored.edge or b""))
            time.sleep(0.005)
        gc.unfreeze()
    store.close()
    hot_ms, other_ms = (float(np.percentile(taken[hot], 99)) for hot in (True, False))
    return {
        "hot_key_p99_ratio": hot_ms / other_ms,
        "hot_key_p99_ms": hot_ms,
        "other_key_p99_ms": other_ms,
        "hot_key_reads": len(taken[True]),
        "hot_key_state_bytes": largest,
    }
