"""How long after its acknowledgement an event is part of what a decision reads, told by a probe of its own."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from benchmarks.stream_load import Load, Sender
from flywheel.adapters.redis_store import RedisFeatureWriter
from flywheel.contracts.settings import PlatformSettings
from flywheel.kernel.fold import Reading
from flywheel.kernel.hydration import opened
from flywheel.kernel.plan import FeaturePlan
from flywheel.kernel.ports import ViewKey
from usecases.fraud.events import Transaction

_PAUSE_S = 0.02
_GIVE_UP_S = 30.0


@dataclass(frozen=True)
class Freshness:
    """Milliseconds from acknowledgement to visibility, one for each probe, and how late the load ever was."""

    taken_ms: NDArray[np.float64]
    load_behind_s: float

    def at(self, percent: float) -> float:
        return float(np.percentile(self.taken_ms, percent))


def freshness(settings: PlatformSettings, plan: FeaturePlan, rate: float, seconds: float, warm_s: float) -> Freshness:
    """Of the stack under that load; probes made while it warms up do not count."""
    probe = _Probe(settings, plan)
    with Load(settings.kafka_bootstrap, rate) as load:
        end_warm_s = time.monotonic() + warm_s
        while time.monotonic() < end_warm_s:
            probe.taken_ms()
        load.behind_s = 0.0
        taken = []
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            taken.append(probe.taken_ms())
            time.sleep(_PAUSE_S)
        behind_s = load.behind_s
    probe.close()
    return Freshness(np.array(taken), behind_s)


class _Probe:
    """Pays with a card that nobody used before and reads that card's features until the payment counts."""

    def __init__(self, settings: PlatformSettings, plan: FeaturePlan) -> None:
        (self._view,) = [view for view in plan.views if view.entity.name == "card"]
        self._reading = Reading(self._view)
        self._count = [f.name for f in self._view.features].index("card_transaction_count_24h")
        self._store = RedisFeatureWriter(settings.redis_url, plan)
        self._sender = Sender(settings.kafka_bootstrap)

    def taken_ms(self) -> float:
        card, heard = f"probe-{uuid.uuid4().hex}", []
        paid = Transaction(
            event_id=card, event_time=datetime.now(UTC), card_id=card, terminal_id="probe", amount_cents=100
        )
        self._sender.send(paid, lambda: heard.append(time.perf_counter()))
        began_s = time.perf_counter()
        while not heard:
            self._sender.serve(0.001)
        while not self._is_visible(card, paid.event_time_us):
            if time.perf_counter() - began_s > _GIVE_UP_S:
                raise RuntimeError(f"{card} was acknowledged and is not visible after {_GIVE_UP_S} s")
            time.sleep(0.0005)
        return (time.perf_counter() - heard[0]) * 1e3

    def _is_visible(self, card: str, at_us: int) -> bool:
        (stored,) = self._store.read([ViewKey(self._view.name, card)])
        state, arrived = opened(self._view, stored)
        return bool(self._reading.values(state, arrived, at_us)[self._count] == 1.0)

    def close(self) -> None:
        self._store.close()
