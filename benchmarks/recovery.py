"""Spark killed twice under load, with events that come twice and out of order: do the windows equal the definition?"""

from __future__ import annotations

import math
import os
import random
import signal
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import numpy as np

from benchmarks.stream_load import Sender
from flywheel.adapters.redis_store import RedisFeatureWriter
from flywheel.contracts.events import Event, from_us
from flywheel.contracts.settings import PlatformSettings
from flywheel.kernel.durations import HOUR_US, MINUTE_US
from flywheel.kernel.fold import Reading
from flywheel.kernel.hydration import opened
from flywheel.kernel.leakage import Recorded, Request, known_value
from flywheel.kernel.plan import FeaturePlan
from flywheel.kernel.ports import ViewKey
from infra.local.supervision import ALIVE, Supervisor
from usecases.fraud.events import Chargeback, Transaction

_EVENTS_A_ROUND = 10_000
_CARDS = 300
_LATE_SHARE, _TWICE_SHARE = 0.2, 0.1
_WITHIN_S = 240.0
_MOMENTS_US = (HOUR_US // 7, 0, -MINUTE_US, -4 * MINUTE_US, -9 * MINUTE_US)
"""When windows are read, from an entity's newest event on."""


def recovery(settings: PlatformSettings, plan: FeaturePlan, tell: Callable[[str], None]) -> Mapping[str, float]:
    """Mismatching values over all entities, windows read through the state alone after all is absorbed, and through
    state and edge together right after each kill."""
    store, sender, rng = (
        RedisFeatureWriter(settings.redis_url, plan),
        Sender(settings.kafka_bootstrap),
        random.Random(9),
    )
    supervisor = Supervisor(settings)
    sent: list[Event] = []
    during = values = 0
    for number in range(3):
        batch = _events(rng, number)
        for place, event in enumerate(batch):
            sender.send(event)
            if number < 2 and place == _EVENTS_A_ROUND // 2:
                tell(f"kill -9 of Spark, number {number + 1}")
                os.kill(supervisor.statuses()["features"].pid, signal.SIGKILL)
            if place % 200 == 0:
                sender.serve()
                time.sleep(0.1)
        sender.flush()
        sent += batch
        if number < 2:
            during += _settled(store, plan, sent)
            _await(lambda: supervisor.statuses()["features"].state in ALIVE, "Spark is back")
    tell("waiting until the tiles hold everything")
    wanted = len({(type(e), e.event_id) for e in sent if isinstance(e, Transaction)})
    before = store.counters()
    _await(lambda: not any(_edges(store, plan, sent)), f"edges are absorbed ({before}, {wanted} sent)")
    after, values = _mismatches(store, plan, sent)
    store.close()
    return {
        "oracle_mismatches": after + during,
        "oracle_values": values,
        "oracle_events": len(sent),
        "oracle_kills": 2,
    }


def _settled(store: RedisFeatureWriter, plan: FeaturePlan, sent: list[Event]) -> int:
    """Mismatches once the edge has had a few seconds, Spark being down."""
    deadline_s = time.monotonic() + 15
    while (found := _mismatches(store, plan, sent)[0]) and time.monotonic() < deadline_s:
        time.sleep(0.2)
    return found


def _events(rng: random.Random, number: int) -> list[Event]:
    now = from_us(time.time_ns() // 1000) - timedelta(minutes=5)
    events: list[Event] = []
    for place in range(_EVENTS_A_ROUND):
        late = timedelta(seconds=rng.randrange(20 * 3600)) if rng.random() < _LATE_SHARE else timedelta()
        fields: dict[str, Any] = {
            "event_id": f"recovery-{number}-{place}",
            "event_time": now + timedelta(milliseconds=20 * place) - late,
            "card_id": f"recovery-card-{rng.randrange(_CARDS)}",
            "terminal_id": f"recovery-terminal-{rng.randrange(_CARDS // 2)}",
            "amount_cents": rng.randrange(1, 50_000),
        }
        events.append(Chargeback(transaction_id="x", **fields) if rng.random() < 0.1 else Transaction(**fields))
        if rng.random() < _TWICE_SHARE:
            events.append(events[max(len(events) - 1 - rng.randrange(50), 0)])
    return events


def _mismatches(store: RedisFeatureWriter, plan: FeaturePlan, sent: list[Event]) -> tuple[int, int]:
    """Wrong values and all values, of every entity at moments around its newest event."""
    wrong = values = 0
    for view in plan.views:
        (key,) = view.entity.keys
        by_entity: dict[str, dict[str, dict[str, Event]]] = defaultdict(lambda: defaultdict(dict))
        for event in sent:
            by_entity[getattr(event, key)][event.event_name][event.event_id] = event
        reading, ids = Reading(view), list(by_entity)
        for entity_id, stored in zip(ids, store.read([ViewKey(view.name, i) for i in ids]), strict=True):
            state, arrived = opened(view, stored)
            kinds = by_entity[entity_id]
            newest_us = max(e.event_time_us for kind in kinds.values() for e in kind.values())
            recorded = {name: _recorded(list(kind.values())) for name, kind in kinds.items()}
            for at_us in (newest_us + after_us for after_us in _MOMENTS_US):
                request = Request("nothing", "none", at_us, np.iinfo(np.int64).max)
                found = reading.values(state, arrived, at_us).tolist()
                for feature, value in zip(view.features, found, strict=True):
                    wanted = known_value(feature, recorded.get(feature.event.event_name), request)
                    wrong += not is_right(value, wanted)
                    values += 1
    return wrong, values


def is_right(value: float, wanted: float) -> bool:
    """Whether a value is the wanted one but for rounding; NaN is right where it is wanted."""
    if math.isnan(wanted):
        return math.isnan(value)
    return value == wanted or abs(value - wanted) <= 1e-9 * max(1.0, abs(wanted))


def _recorded(events: list[Event]) -> Recorded:
    times = np.array([event.event_time_us for event in events])
    amounts = np.array([getattr(event, "amount_cents", 0) for event in events])
    ids = [event.event_id for event in events]
    return Recorded(ids, times, np.zeros(len(events), np.int64), {"amount_cents": amounts})


def _edges(store: RedisFeatureWriter, plan: FeaturePlan, sent: list[Event]) -> list[bool]:
    """For each entity, whether it has an edge."""
    found = []
    for view in plan.views:
        (key,) = view.entity.keys
        ids = sorted({str(getattr(event, key)) for event in sent})
        found += [stored.edge is not None for stored in store.read([ViewKey(view.name, i) for i in ids])]
    return found


def _await(condition: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + _WITHIN_S
    while not condition():
        if time.monotonic() > deadline_s:
            raise RuntimeError(f"not within {_WITHIN_S:.0f} s: {what}")
        time.sleep(0.2)
