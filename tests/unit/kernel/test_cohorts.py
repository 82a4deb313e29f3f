"""What a request gets does not depend on those it came with: values, statuses, models, deadlines, faults."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from flywheel.contracts.events import from_us, iso_utc
from flywheel.kernel.attributes import AttributeRow
from flywheel.kernel.decision import Case, Decided, DecisionRequest, Refused
from flywheel.kernel.decision.cohorts import MAX_ROWS, cohorts_of
from flywheel.kernel.durations import DAY_US, HOUR_US
from flywheel.kernel.hydration import Subject
from flywheel.kernel.lineup import Lineup, LoadedModel
from flywheel.kernel.ports import Answer, Lane, PartlyUnavailable, Question, StoreProgress, Unavailable, ViewKey
from flywheel.kernel.timing import Allowance
from tests import attribute_scene as loaded
from tests.decision_scene import NOW_US, Scene
from tests.serving_parts import AT_US, USECASE, VIEWS, Past, payment
from usecases.fraud.events import Transaction

IDS = st.integers(0, 5)
PASTS = st.lists(
    st.builds(Past, st.integers(0, 99).map(lambda n: f"tx{n}"), st.integers(1, 90_000), st.integers(1, 50_000)),
    min_size=1,
    max_size=4,
    unique_by=lambda past: past.event_id,
)
NUMBERS = st.none() | st.floats(-1e6, 1e6)
AGES_US = st.integers(-HOUR_US, 40 * DAY_US)
SUBJECTS = st.lists(
    st.fixed_dictionaries(
        {
            "event_id": st.integers(0, 99).map(lambda n: f"tx{n}"),
            "card_id": IDS.map(lambda n: f"c{n}"),
            "terminal_id": IDS.map(lambda n: f"t{n}"),
            "amount_cents": st.integers(-1, 60_000),
            "event_time": st.integers(-DAY_US, 30_000_000).map(lambda us: iso_utc(from_us(AT_US + us))),
        }
    ),
    min_size=1,
    max_size=40,
)


class Summing:
    """A model whose score depends on the very bits of the row, and on nothing else."""

    def __init__(self, version: int) -> None:
        self._version = version

    def score(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.array([hash((self._version, row.tobytes())) % 1_000 / 999 for row in rows])


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    """A store with some states, one of them corrupt, loads of any age, and two models."""
    scene = Scene(usecase=loaded.USECASE)
    for entity in VIEWS:
        for number, past in draw(st.dictionaries(IDS, PASTS, max_size=5)).items():
            scene.remember(entity, f"{entity[0]}{number}", past)
    if draw(st.booleans()):
        scene.store.states[ViewKey(VIEWS["card"].name, f"c{draw(IDS)}")] = b"FWT1 not a state"
    scene.store.progress = {Lane.EDGE: StoreProgress(NOW_US - draw(st.integers(0, 20_000_000)), NOW_US)}
    for number, (limit, age_us) in draw(st.dictionaries(IDS, st.tuples(NUMBERS, AGES_US))).items():
        scene.store.put(loaded.PROFILE, [loaded.profile(f"t{number}", AT_US - age_us, limit)])
    for number, (rank, age_us) in draw(st.dictionaries(IDS, st.tuples(NUMBERS, AGES_US))).items():
        scene.store.put(loaded.SEGMENTS, [AttributeRow((f"c{number}",), AT_US - age_us, (rank,))])
    first, second = (LoadedModel(f"v{n}", Summing(n)) for n in range(2))
    scene.lineup = Lineup(first, second, challenger_share=0.4, salt="s", sequence=1)
    return scene


def told(outcome: Decided | Refused) -> Any:
    """All that is said but ids and times."""
    if isinstance(outcome, Refused):
        return type(outcome.error), str(outcome.error)
    logged = outcome.logged().model_dump(exclude={"decision_id", "request_id", "stage_ms"})
    # As text, for a NaN is not equal to itself.
    return {name: repr(value) for name, value in logged.items()}, outcome.model_row.tobytes()


# How fast examples are drawn is the machine's affair.
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(scenes(), SUBJECTS)
async def test_a_cohort_gets_what_each_would_have_got_alone(scene: Scene, subjects: list[dict[str, Any]]) -> None:
    requests = [scene.request(payment(**subject)) for subject in subjects]
    together = await scene.decide_all(requests)
    alone = [(await scene.decide_all([request]))[0] for request in requests]
    assert [told(outcome) for outcome in together] == [told(outcome) for outcome in alone]


class Poisoned:
    """A reader that fails in no foreseen way as soon as one card is asked about."""

    def __init__(self, scene: Scene) -> None:
        self._inner = scene.store.reader()

    async def read(self, question: Question, timeout_s: float) -> Answer:
        if any(key.entity_id == "c-poison" for key in question.keys):
            raise ZeroDivisionError("nobody foresaw this")
        return await self._inner.read(question, timeout_s)

    async def close(self) -> None: ...


async def test_whoever_causes_an_unforeseen_error_has_it_alone() -> None:
    scene = Scene()
    scene.reader = Poisoned(scene)
    cards = [f"c{n}" for n in range(9)]
    cards[4] = "c-poison"
    outcomes = await scene.decide_all([scene.request(payment(card_id=card)) for card in cards])
    failed = [place for place, outcome in enumerate(outcomes) if isinstance(outcome, Refused)]
    assert failed == [4]
    assert isinstance(outcomes[4], Refused)
    assert isinstance(outcomes[4].error, ZeroDivisionError)
    assert [o.unit for o in outcomes if isinstance(o, Decided)] == [card for card in cards if card != "c-poison"]


async def test_a_second_try_knows_nothing_of_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene()
    requests = [scene.request(payment(event_id=event_id)) for event_id in ("a", "b")]
    straight = await scene.decide_all(requests)
    reader, decider = Flaky(scene), scene.decider()
    monkeypatch.setattr(decider, "_reader", reader)
    select, calls = decider._selector.select, itertools.count()

    def fail_once(*arguments: Any) -> Decided:
        if not next(calls):
            raise ZeroDivisionError("nobody foresaw this")
        return select(*arguments)

    monkeypatch.setattr(decider._selector, "select", fail_once)
    again = await decider.decide(requests)
    assert reader.asked == 3
    assert [told(outcome) for outcome in again] == [told(outcome) for outcome in straight]


class Flaky:
    """A reader that is away for its first question."""

    def __init__(self, scene: Scene) -> None:
        self._inner = scene.store.reader()
        self.asked = 0

    async def read(self, question: Question, timeout_s: float) -> Answer:
        self.asked += 1
        if self.asked == 1:
            raise Unavailable("away")
        return await self._inner.read(question, timeout_s)

    async def close(self) -> None: ...


class Partial:
    """A reader that has only a part of its entities, and gives nothing where it was asked for another one, too."""

    def __init__(self, scene: Scene, lost: ViewKey) -> None:
        self._inner = scene.store.reader()
        self._lost = lost

    async def read(self, question: Question, timeout_s: float) -> Answer:
        if self._lost in question.keys:
            raise PartlyUnavailable("one of them is away")
        return await self._inner.read(question, timeout_s)

    async def close(self) -> None: ...


async def test_whose_part_of_the_store_is_away_costs_the_others_nothing() -> None:
    scene = Scene()
    scene.reader = Partial(scene, ViewKey(VIEWS["card"].name, "c2"))
    requests = [scene.request(payment(event_id=f"tx{n}", card_id=f"c{n}")) for n in range(5)]
    outcomes = await scene.decide_all(requests)
    assert [o.fallback for o in outcomes if isinstance(o, Decided)] == [
        "none",
        "none",
        "features_unavailable",
        "none",
        "none",
    ]


class Timed:
    """A reader that keeps what time each question had, and fails those that have less than it needs."""

    def __init__(self, scene: Scene, needs_ms: float) -> None:
        self._inner = scene.store.reader()
        self._needs_ms = needs_ms
        self.asked: list[tuple[int, float]] = []

    async def read(self, question: Question, timeout_s: float) -> Answer:
        self.asked.append((len(question.keys), timeout_s * 1000))
        if timeout_s * 1000 < self._needs_ms:
            raise Unavailable("too slow")
        return await self._inner.read(question, timeout_s)

    async def close(self) -> None: ...


async def test_impatient_callers_share_no_read_with_patient_ones() -> None:
    scene = Scene()
    scene.reader = timed = Timed(scene, needs_ms=10)
    patience_ms: Sequence[float] = [math.inf, 10, 49, math.inf, 11, 0.001]
    requests = [scene.request(payment(event_id=f"tx{n}"), each) for n, each in enumerate(patience_ms)]
    outcomes = await scene.decide_all(requests)
    assert [o.fallback for o in outcomes if isinstance(o, Decided)] == [
        "none",
        "features_unavailable",
        "none",
        "none",
        "features_unavailable",
        "features_unavailable",
    ]
    assert [keys // len(VIEWS) for keys, _ in timed.asked] == [3, 2, 1]
    assert [ms for _, ms in timed.asked] == pytest.approx([20 * 49 / 50, 20 * 10 / 50, 20 * 0.001 / 50])


async def test_who_runs_out_of_time_before_the_cohorts_turn_goes_without_features_alone() -> None:
    scene = Scene()
    scene.reader = timed = Timed(scene, needs_ms=0)
    decider = scene.decider()
    begun = decider.begin([scene.request(payment(event_id=f"tx{n}"), each) for n, each in enumerate((50, 40, 50))])
    (cohort,) = begun.cohorts
    scene.time.now_s += 0.031
    outcomes = await decider.answer(cohort)
    assert [o.event_id for o in outcomes if isinstance(o, Decided)] == ["tx0", "tx1", "tx2"]
    assert [o.fallback for o in outcomes if isinstance(o, Decided)] == ["none", "deadline", "none"]
    assert [keys // len(VIEWS) for keys, _ in timed.asked] == [2]


def case(patience_s: float, candidates: Sequence[str] = ()) -> Case:
    subject = Subject(Transaction.model_validate_json(payment()), candidates)
    allowance = Allowance(USECASE.budget, 0.0, patience_s)
    return Case(DecisionRequest(b""), "r", subject, "c1", allowance)


def test_cohorts_are_bounded_in_rows_and_keep_the_order() -> None:
    cases = [case(math.inf) for _ in range(2 * MAX_ROWS + 1)]
    found = cohorts_of(cases, 0.0)
    assert [len(cohort) for cohort in found] == [MAX_ROWS, MAX_ROWS, 1]
    assert [each for cohort in found for each in cohort] == cases
    many = tuple(map(str, range(500)))
    mixed = [case(math.inf), case(math.inf, many), case(math.inf)]
    assert [len(cohort) for cohort in cohorts_of(mixed, 0.0)] == [1, 1, 1]


def test_who_has_no_time_to_read_is_apart() -> None:
    # At 35 ms, of the 50 that are declared, nothing is left beside the model's share.
    early, late = case(math.inf), case(math.inf)
    late.allowance = Allowance(USECASE.budget, -0.036, math.inf)
    assert cohorts_of([early, late, early], 0.0) == [[early, early], [late]]
    assert cohorts_of([], 0.0) == []
