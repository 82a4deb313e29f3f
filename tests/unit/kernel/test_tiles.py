"""Windows folded from tiles equal a brute-force count over the raw events, whatever the order and the batches."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.kernel import catalog
from flywheel.kernel.durations import DAY_US, MINUTE_US
from flywheel.kernel.features import WindowedFeature
from flywheel.kernel.plan import TileView, compile_plan
from flywheel.kernel.tiles import (
    RECENT_DTYPE,
    RECENT_LIMIT,
    EntityState,
    ForeignState,
    OwnEvent,
    apply,
    fold,
    id_hash,
    window_bounds,
)
from tests.window_oracle import window_value

PLAN = compile_plan(catalog.load("fraud"))
VIEWS = {view.entity.name: view for view in PLAN.views}
START_US = 17_622 * DAY_US


@dataclass(frozen=True)
class Happened:
    """An event of one entity."""

    name: str
    event_id: str
    time_us: int
    amount_cents: float


def oracle(feature: WindowedFeature, events: list[Happened], at_us: int) -> float:
    """The feature by its definition: a loop over the raw events."""
    mine = [(e.time_us, e.amount_cents) for e in events if e.name == feature.event.event_name]
    return window_value(feature, mine, at_us)


class Stream:
    """What the streaming job does, in memory: absolute minute tiles of everything seen, batch by batch."""

    def __init__(self, view: TileView) -> None:
        self.view = view
        self.seen: dict[str, Happened] = {}
        self.state = EntityState.empty(view)
        self.counted: dict[str, int] = defaultdict(int)

    def batch(self, batch_id: int, events: list[Happened]) -> None:
        fresh = [e for e in {e.event_id: e for e in events}.values() if e.event_id not in self.seen]
        if not fresh:
            return
        self.seen |= {e.event_id: e for e in fresh}
        touched = {e.time_us // MINUTE_US for e in fresh}
        inside = [e for e in self.seen.values() if e.time_us // MINUTE_US in touched]
        tiles = np.zeros(len(touched), self.view.tile_dtype)
        for row, minute in zip(tiles, sorted(touched), strict=True):
            row["start_us"] = minute * MINUTE_US
            for event in self.view.events:
                amounts = [
                    e.amount_cents for e in inside if e.time_us // MINUTE_US == minute and e.name == event.event_name
                ]
                row[f"{event.event_name}_n"] = len(amounts)
                column = f"{event.event_name}_amount_cents"
                if f"{column}_sum" in self.view.columns:
                    row[f"{column}_sum"] = sum(amounts)
                    row[f"{column}_min"] = min(amounts, default=np.nan)
                    row[f"{column}_max"] = max(amounts, default=np.nan)
        recent = np.array([(e.time_us // MINUTE_US * MINUTE_US, id_hash(e.event_id)) for e in inside], RECENT_DTYPE)
        newest = max(e.time_us for e in fresh)
        self.apply(batch_id, tiles, recent, newest)

    def apply(self, batch_id: int, tiles: np.ndarray, recent: np.ndarray, newest: int) -> None:
        self.state, counted = apply(
            self.view, self.state, tiles=tiles, recent=recent, newest_us=newest, batch_id=batch_id
        )
        # The same batch once more, as after a crash between the write and the commit of the offsets.
        again, twice = apply(self.view, self.state, tiles=tiles, recent=recent, newest_us=newest, batch_id=batch_id)
        assert again is self.state
        assert not twice
        self.state = EntityState.unpack(self.view, self.state.pack(self.view))
        for name, n in counted.items():
            self.counted[name] += n


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[list[Happened]], int]:
    """Batches of events with duplicates and disorder within the lateness of a day, and a moment to read at."""
    edges = st.sampled_from([0, 1, MINUTE_US - 1, MINUTE_US, 3_600_000_000, DAY_US - 1, DAY_US])
    gaps = st.one_of(edges, st.integers(0, 3 * DAY_US))
    count = draw(st.integers(1, 40))
    times = START_US + np.cumsum([draw(gaps) for _ in range(count)])
    names = st.sampled_from(["transaction", "transaction", "chargeback"])
    events = [
        Happened(draw(names), f"e{i}", int(time), float(draw(st.integers(1, 100_000)))) for i, time in enumerate(times)
    ]
    jitter = [draw(st.integers(0, DAY_US - 1)) for _ in events]
    arrived = [e for _, e in sorted(zip(jitter, events, strict=True), key=lambda pair: pair[0] + pair[1].time_us)]
    for _ in range(draw(st.integers(0, 5))):
        original = draw(st.integers(0, len(arrived) - 1))
        arrived.insert(draw(st.integers(original, len(arrived))), arrived[original])
    size = draw(st.integers(1, 10))
    batches = [arrived[i : i + size] for i in range(0, len(arrived), size)]
    newest = max(e.time_us for e in events)
    return batches, newest + draw(gaps)


@settings(max_examples=150, deadline=None)
@given(histories(), st.sampled_from(["card", "terminal"]))
def test_fold_equals_brute_force(history: tuple[list[list[Happened]], int], entity: str) -> None:
    batches, at_us = history
    stream = Stream(VIEWS[entity])
    for batch_id, batch in enumerate(batches):
        stream.batch(batch_id, batch)
    events = list(stream.seen.values())
    values = fold(stream.view, stream.state, at_us, None)
    expected = [oracle(feature, events, at_us) for feature in stream.view.features]
    assert values == expected
    for name in ("transaction", "chargeback"):
        assert stream.counted[name] == sum(e.name == name for e in events)


@settings(max_examples=50, deadline=None)
@given(histories(), st.booleans())
def test_own_event_counts_once(history: tuple[list[list[Happened]], int], arrived: bool) -> None:
    batches, at_us = history
    stream = Stream(VIEWS["card"])
    for batch_id, batch in enumerate(batches):
        stream.batch(batch_id, batch)
    mine = Happened("transaction", "own", at_us, 777.0)
    expected = [oracle(f, [*stream.seen.values(), mine], at_us) for f in stream.view.features]
    if arrived:
        stream.batch(len(batches), [mine])
    own = OwnEvent("transaction", id_hash("own"), {"amount_cents": 777.0})
    assert fold(stream.view, stream.state, at_us, own) == expected


def test_an_unseen_entity_has_empty_windows() -> None:
    view = VIEWS["card"]
    assert fold(view, None, START_US, None) == [0.0] * len(view.features)


def test_windows_of_a_quiet_entity_empty_by_themselves() -> None:
    stream = Stream(VIEWS["card"])
    stream.batch(0, [Happened("transaction", "e", START_US, 100.0)])
    by_name = {f.name: i for i, f in enumerate(stream.view.features)}
    day = by_name["card_transaction_count_24h"]
    assert fold(stream.view, stream.state, START_US + DAY_US, None)[day] == 1
    assert fold(stream.view, stream.state, START_US + DAY_US + MINUTE_US, None)[day] == 0


@pytest.mark.parametrize(
    "damage", [lambda raw: raw[:-1], lambda raw: raw + b"x", lambda raw: b"XXXX" + raw[4:], lambda _: b""]
)
def test_damaged_state_is_refused(damage) -> None:  # type: ignore[no-untyped-def]
    stream = Stream(VIEWS["card"])
    stream.batch(0, [Happened("transaction", "e", START_US, 100.0)])
    with pytest.raises(ForeignState):
        EntityState.unpack(stream.view, damage(stream.state.pack(stream.view)))


def test_state_of_another_view_is_refused() -> None:
    raw = EntityState.empty(VIEWS["card"]).pack(VIEWS["card"])
    with pytest.raises(ForeignState, match="another declaration"):
        EntityState.unpack(VIEWS["terminal"], raw)


def test_state_of_a_hot_entity_is_bounded() -> None:
    """One event a minute for 60 days: tiles and remembered ids stop growing once the lanes are full."""
    view = VIEWS["card"]
    state = EntityState.empty(view)
    sizes = []
    for day in range(60):
        starts = START_US + day * DAY_US + np.arange(1440) * MINUTE_US
        tiles = np.zeros(1440, view.tile_dtype)
        tiles["start_us"] = starts
        tiles["transaction_n"] = 1
        recent = np.zeros(1440, RECENT_DTYPE)
        recent["start_us"], recent["id_hash"] = starts, np.arange(1440) + day * 1440
        state, _ = apply(view, state, tiles=tiles, recent=recent, newest_us=int(starts[-1]), batch_id=day)
        sizes.append(len(state.pack(view)))
    assert sizes[40] == sizes[-1] == max(sizes)
    assert len(state.recent) == RECENT_LIMIT


def test_window_bounds_by_hand() -> None:
    week = next(f for f in VIEWS["card"].features if f.name == "card_transaction_count_7d")
    at_us = START_US + 90 * MINUTE_US
    assert window_bounds(week, at_us) == (START_US + 60 * MINUTE_US - 7 * DAY_US, START_US + 120 * MINUTE_US)
    delayed = next(f for f in VIEWS["terminal"].features if f.name == "terminal_transaction_count_24h_delayed_7d")
    assert window_bounds(delayed, at_us) == (
        START_US + 60 * MINUTE_US - 8 * DAY_US,
        START_US + 60 * MINUTE_US - 7 * DAY_US,
    )
