"""The edge lane and its pursuit of the log on a store in memory, on clocks that are set by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from flywheel.adapters.memory_erasures import MemoryErasures
from flywheel.adapters.memory_store import MemoryFeatureStore
from flywheel.contracts.events import Envelope, from_us, to_us
from flywheel.contracts.topics import event_topic
from flywheel.kernel import catalog
from flywheel.kernel.durations import HOUR_US
from flywheel.kernel.erasure import EraseKey
from flywheel.kernel.fold import Reading
from flywheel.kernel.hydration import opened
from flywheel.kernel.plan import compile_plan
from flywheel.kernel.ports import Record, StateWrite, Unavailable, ViewKey
from flywheel.kernel.rows import MARK, TIE
from flywheel.kernel.state import Change, apply, mark_of, partition_of
from services.features.edge.lane import EdgeLane
from services.features.edge.pursuit import Pursuit
from usecases.fraud.events import Transaction

PLAN = compile_plan(catalog.load("fraud"))

CARD = PLAN.views[0]

KEY = ViewKey(CARD.name, "c1")

TOPIC = event_topic("fraud", "transaction").name

NOBODY = MemoryErasures(EraseKey(b"key", "fraud"))

START_US = to_us(datetime(2018, 6, 1, 12, tzinfo=UTC))


def record(offset: int, event_id: str, *, card: str = "c1", at_us: int = START_US, partition: int = 0) -> Record:
    paid = Transaction(
        event_id=event_id, event_time=from_us(at_us), card_id=card, terminal_id="t1", amount_cents=100 + offset
    )
    value = Envelope.seal(paid, ingest_time=datetime.now(UTC), request_id="r").to_bytes()
    return Record(TOPIC, partition, offset, b"", value)


def count(store: MemoryFeatureStore, at_us: int = START_US + HOUR_US) -> float:
    """Payments of the card within a day, as a decision sees it."""
    state, arrived = opened(CARD, store.read([KEY])[0])
    values = Reading(CARD).values(state, arrived, at_us).tolist()
    return float(dict(zip((f.name for f in CARD.features), values, strict=True))["card_transaction_count_24h"])


def stream(store: MemoryFeatureStore, until_offset: int) -> None:
    """What the tiles' job does with everything on the edge below that offset."""
    (stored,) = store.read([KEY])
    state, arrived = opened(CARD, stored)
    rows = arrived[arrived[:, MARK] < mark_of(0, until_offset)]
    (after,), (fresh,) = apply(CARD, [state], [Change(rows, {0: mark_of(0, until_offset)})])
    counted = PLAN.counted(CARD, partition_of(fresh[:, MARK]))
    write = StateWrite(after.pack(CARD), after.newest_us, StateWrite.ending_of(stored.state), counted)
    assert store.write({KEY: write}) == []


def opened_ties(store: MemoryFeatureStore, key: ViewKey) -> set[int]:
    """The id hashes on an edge."""
    _, arrived = opened(CARD, store.read([key])[0])
    return {int(tie) for tie in arrived[:, TIE]}


FIELDS = {"card_id": "c1", "terminal_id": "t1"}


class Log:
    """A log in memory that may be away."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.started_at: list[Mapping[tuple[str, int], int]] = []
        self.others: list[Record] = []
        """Of another partition."""
        self.held_back = 0
        """How many of these do not come yet."""
        self.away = False
        self._at = self._others_at = 0

    def start(self, positions: Mapping[tuple[str, int], int]) -> None:
        self.started_at.append(dict(positions))
        self._at, self._others_at = positions.get((TOPIC, 0), 0), positions.get((TOPIC, 1), 0)

    def poll(self, timeout_s: float, limit: int) -> list[Record]:  # noqa: ARG002  memory answers at once
        found = self.records[self._at : self._at + limit]
        self._at += len(found)
        others = self.others[self._others_at : len(self.others) - self.held_back]
        self._others_at += len(others)
        return found + others

    def ends(self) -> Mapping[tuple[str, int], int]:
        if self.away:
            raise Unavailable("away")
        return {(TOPIC, 0): len(self.records), (TOPIC, 1): len(self.others)}


class Scene:
    """A pursuit over memory, on clocks that are set by hand."""

    def __init__(self) -> None:
        self.store = MemoryFeatureStore(PLAN)
        self.store.absorb({0: mark_of(0, 0)}, None)
        self.log = Log()
        self.now_s = 0.0
        self.pursuit = Pursuit(
            PLAN,
            EdgeLane(PLAN, self.store, NOBODY),
            self.store,
            self.log,
            self.log,
            steady_s=lambda: self.now_s,
            wall_us=lambda: int(self.now_s * 1e6),
        )

    def send(self, number: int) -> None:
        start = len(self.log.records)
        self.log.records += [record(n, f"e{n}") for n in range(start, start + number)]

    def ties(self) -> Sequence[int]:
        _, arrived = opened(CARD, self.store.read([KEY])[0])
        return [int(tie) for tie in arrived[:, TIE]]
