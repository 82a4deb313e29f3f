"""How long after its acknowledgement an event is part of what a decision reads, told by probes on a schedule."""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from benchmarks.stream_load import CARDS, Load, Sender
from flywheel.adapters.redis_store import RedisFeatureWriter
from flywheel.contracts.settings import PlatformSettings
from flywheel.kernel.hydration import opened
from flywheel.kernel.plan import FeaturePlan
from flywheel.kernel.ports import ViewKey
from flywheel.kernel.rows import TIE, event_hash
from usecases.fraud.events import Transaction

_EVERY_S = 0.05
_PAUSE_S = 0.001
_GIVE_UP_S = 30.0

Send = Callable[[Transaction, Callable[[], None]], None]
AreVisible = Callable[[Sequence["Probe"]], Sequence[bool]]


@dataclass(eq=False)
class Probe:
    """A payment whose way is followed; `acknowledged_s` is None until the broker has it."""

    paid: Transaction
    busy: bool
    """Made with a card that the load uses too."""
    due_s: float
    acknowledged_s: float | None = None
    visible_s: float | None = None

    @property
    def tie(self) -> int:
        """The event's id hash."""
        return event_hash(self.paid.event_name, self.paid.event_id)

    @property
    def taken_ms(self) -> float:
        """From acknowledgement to visibility; NaN before both."""
        if self.acknowledged_s is None or self.visible_s is None:
            return float("nan")
        return (self.visible_s - self.acknowledged_s) * 1e3


class Probes:
    """Sends a probe each `every_s`, however long those before it take, and watches all that are under way at once.

    `send` calls back, from whatever thread, on acknowledgement. `are_visible` answers for many in one round trip.
    """

    def __init__(
        self, send: Send, are_visible: AreVisible, clock: Callable[[], float], every_s: float = _EVERY_S
    ) -> None:
        self._send = send
        self._are_visible = are_visible
        self._clock = clock
        self._every_s = every_s
        self._began_s = clock()
        self._rng = random.Random(11)
        self._waiting: list[Probe] = []
        self._sent = 0
        self.behind_s = 0.0
        self.done: list[Probe] = []

    def step(self, *, sending: bool = True) -> bool:
        """Sends what is due and looks once; whether probes are still under way. Raises RuntimeError for a lost one."""
        while sending and (due_s := self._began_s + self._sent * self._every_s) <= self._clock():
            self._begin(due_s)
        asked = [probe for probe in self._waiting if probe.acknowledged_s is not None]
        for probe, visible in zip(asked, self._are_visible(asked) if asked else (), strict=True):
            if visible:
                probe.visible_s = self._clock()
                self.done.append(probe)
        self._waiting = [probe for probe in self._waiting if probe.visible_s is None]
        for probe in self._waiting:
            if self._clock() - probe.due_s > _GIVE_UP_S:
                raise RuntimeError(f"{probe.paid.event_id} is not visible after {_GIVE_UP_S} s")
        return bool(self._waiting)

    def _begin(self, due_s: float) -> None:
        name, busy = f"probe-{uuid.uuid4().hex}", self._sent % 2 == 1
        card = f"card-{self._rng.randrange(CARDS)}" if busy else name
        now = datetime.now(UTC)
        paid = Transaction(event_id=name, event_time=now, card_id=card, terminal_id="probe", amount_cents=100)
        probe = Probe(paid, busy, due_s)
        self._waiting.append(probe)
        self._sent += 1
        self.behind_s = max(self.behind_s, self._clock() - due_s)

        def acknowledged() -> None:
            probe.acknowledged_s = self._clock()

        self._send(paid, acknowledged)


@dataclass(frozen=True)
class Freshness:
    """Milliseconds from acknowledgement to visibility, one for each probe; how late load and probes ever were."""

    taken_ms: NDArray[np.float64]
    busy: NDArray[np.bool_]
    """Which probes were of cards that the load uses too."""
    load_behind_s: float
    probes_behind_s: float

    def at(self, percent: float) -> float:
        """A percentile of all probes."""
        return float(np.percentile(self.taken_ms, percent))

    def busy_at(self, percent: float) -> float:
        """A percentile of the probes of busy cards."""
        return float(np.percentile(self.taken_ms[self.busy], percent))


def freshness(settings: PlatformSettings, plan: FeaturePlan, rate: float, seconds: float, warm_s: float) -> Freshness:
    """Of the stack under that load; probes made while it warms up do not count."""
    store, sender = RedisFeatureWriter(settings.redis_url, plan), Sender(settings.kafka_bootstrap)
    probes = Probes(sender.send, _Sight(store, plan), time.perf_counter)
    with Load(settings.kafka_bootstrap, rate) as load, _Listening(sender):
        _run(probes, warm_s)
        warm_until_s = time.perf_counter()
        load.behind_s = probes.behind_s = 0.0
        _run(probes, seconds)
        behind_s = load.behind_s
        while probes.step(sending=False):
            time.sleep(_PAUSE_S)
    store.close()
    counted = [probe for probe in probes.done if probe.due_s >= warm_until_s]
    taken_ms, busy = np.array([p.taken_ms for p in counted]), np.array([p.busy for p in counted], np.bool_)
    return Freshness(taken_ms, busy, behind_s, probes.behind_s)


def _run(probes: Probes, seconds: float) -> None:
    end_s = time.perf_counter() + seconds
    while time.perf_counter() < end_s:
        probes.step()
        time.sleep(_PAUSE_S)


class _Sight:
    """Whether what a decision reads of the card has the probe in it, in the state or on the edge."""

    def __init__(self, store: RedisFeatureWriter, plan: FeaturePlan) -> None:
        (self._view,) = [view for view in plan.views if view.entity.name == "card"]
        self._store = store

    def __call__(self, probes: Sequence[Probe]) -> list[bool]:
        found = self._store.read([ViewKey(self._view.name, probe.paid.card_id) for probe in probes])
        seen = []
        for probe, stored in zip(probes, found, strict=True):
            state, arrived = opened(self._view, stored)
            seen.append(any(probe.tie in ties for ties in (arrived[:, TIE], state.recent, state.raw[:, TIE])))
        return seen


class _Listening:
    """Hears of acknowledgements when they come, not when somebody has time to ask."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="acknowledgements", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._sender.serve(0.05)
