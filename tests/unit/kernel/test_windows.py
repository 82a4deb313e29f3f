"""Batch, stream and read path against a loop over the events: the same windows, whatever order events arrive in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from flywheel.contracts.events import Event
from flywheel.kernel import sketch as sketch_module
from flywheel.kernel import state as state_module
from flywheel.kernel.durations import DAY_US, HOUR_US, MINUTE_US, SECOND_US
from flywheel.kernel.features import Statistic
from flywheel.kernel.fold import Reading
from flywheel.kernel.history import Moments, history, known_from, knows_until
from flywheel.kernel.plan import SLACK_US, TileView, view_of
from flywheel.kernel.rows import Cells, event_hash, in_time, no_rows, rows_of
from flywheel.kernel.state import Change, EntityState, apply, mark_of
from tests.wide_declaration import BUYER, FEATURES, Order, Refund
from tests.window_oracle import Happened, window_value

VIEW = view_of("shop_buyer_tiles", BUYER, FEATURES)
NOW_US = 17_622 * DAY_US + 13 * HOUR_US + 7 * MINUTE_US

# Distances from the edges of tiles and windows, where mistakes live.
_near = st.sampled_from([-1, 0, 1, SECOND_US, -SECOND_US, 30 * SECOND_US])
_far = st.sampled_from(
    [
        0,
        SECOND_US,
        MINUTE_US,
        5 * MINUTE_US,
        10 * MINUTE_US,
        HOUR_US,
        3 * HOUR_US,
        DAY_US,
        7 * DAY_US,
        30 * DAY_US,
        90 * DAY_US,
    ]
)
_times = st.one_of(
    st.builds(lambda far, near: NOW_US - far + near, _far, _near),
    st.integers(NOW_US - 20 * MINUTE_US, NOW_US),
    st.integers(NOW_US - 95 * DAY_US, NOW_US),
)


@st.composite
def _event(draw: st.DrawFn, number: int) -> Happened:
    if draw(st.integers(0, 4)) == 0:
        fields: dict[str, object] = {"buyer": "b", "cents": 1}
        return Happened("refund", str(number), draw(_times), fields)
    fields = {
        "buyer": draw(st.sampled_from(["b", "x"])),
        "seller": draw(st.sampled_from(["b", "y"])),
        "shop": draw(st.sampled_from("abc")),
        "cents": draw(st.sampled_from([0, 1, 49, 50, 51, -3, 10**12])),
        "weight": draw(st.sampled_from([None, 0.0, 0.25, 0.5, 1e9])),
    }
    return Happened("order", str(number), draw(_times), fields)


@st.composite
def stories(draw: st.DrawFn) -> list[Happened]:
    """Events in the order in which they arrive; some come twice."""
    events = [draw(_event(number)) for number in range(draw(st.integers(0, 25)))]
    again = draw(st.lists(st.sampled_from(events), max_size=4)) if events else []
    arriving = draw(st.permutations([*events, *again]))
    after_the_fact = draw(st.lists(st.booleans(), min_size=len(arriving), max_size=len(arriving)))
    return [
        replace(event, arrived_us=NOW_US + place, backfilled=backfilled)
        for place, (event, backfilled) in enumerate(zip(arriving, after_the_fact, strict=True))
    ]


_KINDS: dict[str, type[Event]] = {"order": Order, "refund": Refund}


def rows(view: TileView, events: Sequence[tuple[int, Happened]], marks: Sequence[int] | None = None) -> Cells:
    """Rows of numbered events about the buyer `b`, in their order."""
    found = [no_rows(view)]
    for place, (offset, happened) in enumerate(events):
        mark = marks[place] if marks is not None else mark_of(0, offset)
        kind = _KINDS[happened.name]
        columns: dict[str, NDArray[Any]] = {
            name: np.array([happened.fields[name]], object) for name in view.fields_of(kind)
        }
        tie = event_hash(happened.name, happened.event_id)
        ids, made = rows_of(view, kind, columns, *(np.array([cell]) for cell in (happened.time_us, tie, mark)))
        found.append(made[[entity_id == "b" for entity_id in ids]])
    return np.concatenate(found)


def expected(events: Sequence[Happened], at_us: int, own: Happened | None, known_us: int | None = None) -> list[float]:
    return [window_value(f, ("b",), events, at_us, own=own, known_us=known_us) for f in VIEW.features]


def assert_same(found: NDArray[np.float64], wanted: list[float]) -> None:
    wrong = [
        f"{feature.name}: {got!r}, should be {want!r}"
        for feature, got, want in zip(VIEW.features, found.tolist(), wanted, strict=True)
        if got != pytest.approx(want, rel=1e-9, abs=1e-9) or (feature.statistic in EXACT and got != want)
    ]
    assert not wrong, wrong


EXACT = {Statistic.COUNT, Statistic.MIN, Statistic.MAX, Statistic.DISTINCT, Statistic.FIRST, Statistic.LAST}


@settings(max_examples=150, deadline=None)
@given(stories(), st.data())
def test_state_and_edge_give_the_window_whatever_arrived_in_which_order(
    arriving: list[Happened], data: st.DataObject
) -> None:
    numbered = list(enumerate(arriving))
    absorbed = data.draw(st.integers(0, len(arriving)), label="absorbed by the stream")
    state, at = EntityState.empty(VIEW), 0
    while at < absorbed:
        end = data.draw(st.integers(at + 1, absorbed), label="end of batch")
        batch = rows(VIEW, numbered[at:end])
        for _ in range(data.draw(st.integers(1, 2), label="times the batch comes")):
            (state,), _ = apply(VIEW, [state], [Change(batch, {0: mark_of(0, end)})])
        state = EntityState.unpack(VIEW, state.pack(VIEW))
        at = end
    # The edge still holds some of what the stream has absorbed.
    since = data.draw(st.integers(0, absorbed), label="edge since")
    edge = rows(VIEW, _once(numbered, since))
    newest_us = max(
        (e.time_us for e in arriving if "b" in (e.fields.get("buyer"), e.fields.get("seller"))), default=NOW_US
    )
    at_us = max(newest_us, NOW_US) - data.draw(st.integers(0, SLACK_US), label="behind")
    if data.draw(st.booleans(), label="about an event"):
        own = Happened("order", "own", at_us, {"buyer": "b", "seller": "z", "shop": "a", "cents": 77, "weight": 0.1})
        tie = event_hash("order", "own")
        found = Reading(VIEW).values(state, edge, at_us, own=rows(VIEW, [(0, own)]), own_tie=tie)
    else:
        own, found = None, Reading(VIEW).values(state, edge, at_us)
    assert_same(found, expected(arriving, at_us, own))


def _once(numbered: list[tuple[int, Happened]], since: int) -> list[tuple[int, Happened]]:
    """What an edge holds: the events from that offset on, each id once."""
    seen: dict[tuple[str, str], tuple[int, Happened]] = {}
    for offset, event in numbered[since:]:
        seen.setdefault((event.name, event.event_id), (offset, event))
    return list(seen.values())


@settings(max_examples=100, deadline=None)
@given(stories())
def test_history_gives_the_window_as_it_was_known(arriving: list[Happened]) -> None:
    first = list({(e.name, e.event_id): e for e in reversed(arriving)}.values())
    mine = [e for e in first if e.name == "order" and "b" in (e.fields["buyer"], e.fields["seller"])]
    past = in_time(rows(VIEW, list(enumerate(first)), known_from(*arrivals(first)).tolist()))
    moments = Moments(
        np.array([e.time_us for e in mine], np.int64),
        np.array([event_hash(e.name, e.event_id) for e in mine], np.int64),
        knows_until(*arrivals(mine)),
    )
    values = history(VIEW, past, moments)
    for row, own in enumerate(mine):
        known = [e for e in first if e.backfilled or own.backfilled or e.arrived_us <= own.arrived_us]
        assert_same(values[row], expected(known, own.time_us, own))


def arrivals(events: Sequence[Happened]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """When each arrived, and whether it was backfilled."""
    return np.array([e.arrived_us for e in events], np.int64), np.array([e.backfilled for e in events], np.bool_)


@settings(max_examples=50, deadline=None)
@given(stories(), st.data())
def test_history_of_backfilled_events_does_not_depend_on_the_order_of_loading(
    arriving: list[Happened], data: st.DataObject
) -> None:
    loaded = [replace(e, backfilled=True) for e in {(e.name, e.event_id): e for e in arriving}.values()]
    again = [replace(e, arrived_us=NOW_US + n) for n, e in enumerate(data.draw(st.permutations(loaded)))]
    found = []
    for events in (loaded, again):
        events = sorted(events, key=lambda e: (e.time_us, e.name, e.event_id))
        past = in_time(rows(VIEW, list(enumerate(events)), known_from(*arrivals(events)).tolist()))
        times_us = np.array([e.time_us for e in events], np.int64)
        ties = np.array([event_hash(e.name, e.event_id) for e in events], np.int64)
        found.append(history(VIEW, past, Moments(times_us, ties, knows_until(*arrivals(events)))))
    np.testing.assert_array_equal(found[0], found[1])


@settings(max_examples=100, deadline=None)
@given(stories(), st.data())
def test_the_state_depends_on_the_events_alone(arriving: list[Happened], data: st.DataObject) -> None:
    first = list({(e.name, e.event_id): e for e in reversed(arriving)}.values())
    (whole,), _ = apply(VIEW, [EntityState.empty(VIEW)], [Change(rows(VIEW, list(enumerate(first))), {})])
    state = EntityState.empty(VIEW)
    shuffled = data.draw(st.permutations(first))
    for offset, event in enumerate(shuffled):
        batch = rows(VIEW, [(offset, event)])
        (state,), _ = apply(VIEW, [state], [Change(batch, {})])
    assert state.newest_us == whole.newest_us
    np.testing.assert_array_equal(state.raw[:, :2], whole.raw[:, :2])
    for one, other in zip(state.lanes, whole.lanes, strict=True):
        np.testing.assert_array_equal(one.starts_us, other.starts_us)
        np.testing.assert_allclose(one.floats[:, 1:], other.floats[:, 1:], rtol=1e-9, atol=1e-9)
        for mine, theirs in zip(one.sketches, other.sketches, strict=True):
            assert [s.tolist() for s in mine] == [s.tolist() for s in theirs]


@settings(max_examples=60)
@given(st.lists(st.integers(0, 900), min_size=1, max_size=40), st.data())
def test_beyond_its_limits_a_busy_entity_keeps_whole_seconds(ages_s: list[int], data: st.DataObject) -> None:
    """Events and readings on whole seconds: there the second in which an event is merged says when it was."""
    now_us = NOW_US // SECOND_US * SECOND_US
    events = [Happened("order", str(n), now_us - age * SECOND_US, _order(n)) for n, age in enumerate(ages_s)]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(state_module, "RAW_LIMIT", 4)
        patched.setattr(state_module, "RECENT_LIMIT", 4)
        state, at = EntityState.empty(VIEW), 0
        while at < len(events):
            end = data.draw(st.integers(at + 1, len(events)))
            batch = rows(VIEW, list(enumerate(events))[at:end])
            (state,), _ = apply(VIEW, [state], [Change(batch, {0: mark_of(0, end)})])
            (again,), new = apply(VIEW, [state], [Change(batch, {0: mark_of(0, end)})])
            assert not len(new[0])
            assert again.pack(VIEW) == state.pack(VIEW)
            at = end
    assert len(state.raw) <= 4
    for behind_s in (0, 1, 30):
        at_us = max(e.time_us for e in events) + behind_s * SECOND_US
        assert_same(Reading(VIEW).values(state, no_rows(VIEW), at_us), expected(events, at_us, None))


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 3 * DAY_US)), min_size=1, max_size=40))
def test_sketches_say_the_same_wherever_they_are_made(told: list[tuple[int, int]]) -> None:
    events = [
        Happened("order", str(n), NOW_US - age_us, {**_order(n), "shop": f"shop-{shop}"}, arrived_us=n)
        for n, (shop, age_us) in enumerate(told)
    ]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sketch_module, "EXACT_LIMIT", 3)
        state = EntityState.empty(VIEW)
        for offset, event in enumerate(events):
            change = Change(rows(VIEW, [(offset, event)]), {0: mark_of(0, offset + 1)})
            (state,), _ = apply(VIEW, [state], [change])
        state = EntityState.unpack(VIEW, state.pack(VIEW))
        at_us = max(e.time_us for e in events)
        past = in_time(rows(VIEW, list(enumerate(events)), list(range(len(events)))))
        moment = Moments(np.array([at_us]), np.array([0]), np.array([len(events)]))
        online, offline = Reading(VIEW).values(state, no_rows(VIEW), at_us), history(VIEW, past, moment)[0]
    for place, feature in enumerate(VIEW.features):
        if feature.statistic is Statistic.DISTINCT:
            truth = window_value(feature, ("b",), events, at_us)
            assert online[place] == offline[place]
            assert online[place] == pytest.approx(truth, rel=0.1, abs=0.5)


def _order(number: int) -> dict[str, object]:
    return {"buyer": "b", "seller": "z", "shop": "abc"[number % 3], "cents": number, "weight": number / 4}
