"""What goes over the wire."""

from __future__ import annotations

import numpy as np
import orjson

from flywheel.contracts.proto.decision_pb2 import DecideRequest, DecideResponse
from flywheel.kernel import catalog
from loadtests.material import Material
from loadtests.requests import MADE_UP, Subjects, apart, by_the_model, decisions, events
from loadtests.scenario import Traffic

_USECASE = catalog.load("fraud")
_NOW = "2018-06-01T12:00:00.000000Z"
_MATERIAL = Material(
    [
        {
            "event_id": f"tx-{row}",
            "event_time": "2018-04-01T00:00:00Z",
            "card_id": f"c{row}",
            "terminal_id": f"t{row}",
            "amount_cents": 100 + row,
        }
        for row in range(10)
    ],
    np.arange(10.0),
)


def _subjects(count: int = 100, **declared: float) -> Subjects:
    traffic = Traffic.model_validate({"name": "decisions", **declared})
    return Subjects(_USECASE, _MATERIAL, traffic, count, "run", lambda: _NOW)


def test_requests_are_the_use_cases_events_that_happen_now_and_are_all_different() -> None:
    made = [_USECASE.request.model_validate_json(_subjects()(number)) for number in range(100)]
    assert len({event.event_id for event in made}) == 100
    assert all(event.event_id.startswith(MADE_UP) for event in made)
    assert {event.event_time.isoformat() for event in made} == {"2018-06-01T12:00:00+00:00"}
    # What else a request says belongs to the entity that it is about.
    told = [event.model_dump() for event in made]
    assert {(each["card_id"], each["amount_cents"]) for each in told} <= {(f"c{row}", 100 + row) for row in range(10)}


def test_a_request_sent_again_is_the_same() -> None:
    subjects = _subjects(skew=1.0, cold_share=0.5)
    assert subjects(7) == subjects(7)


def test_cold_requests_are_each_about_somebody_new() -> None:
    subjects = _subjects(cold_share=1.0)
    cards = {orjson.loads(subjects(number))["card_id"] for number in range(100)}
    assert len(cards) == 100
    assert all(card.startswith(MADE_UP) for card in cards)


def test_decisions_are_asked_for_by_the_use_cases_name() -> None:
    request = DecideRequest.FromString(decisions("fraud", _subjects())(3))
    assert request.usecase == "fraud"
    assert request.subject == _subjects()(3)


def test_batches_hold_every_event_once() -> None:
    make = events(_subjects(), batch=10)
    ids = [event["event_id"] for number in range(10) for event in orjson.loads(make(number))["events"]]
    assert len(set(ids)) == len(ids) == 100


def test_events_of_a_test_are_about_entities_of_its_own() -> None:
    fields = apart(_MATERIAL, _USECASE).events[0]
    assert fields["card_id"] == f"{MADE_UP}c0"
    assert fields["terminal_id"] == f"{MADE_UP}t0"
    assert fields["amount_cents"] == 100


def test_an_answer_by_the_rule_is_told_from_one_by_the_model() -> None:
    assert by_the_model(DecideResponse(score=0.5, fallback="none", arm="champion").SerializeToString())
    assert not by_the_model(DecideResponse(score=0.5, fallback="features_stale").SerializeToString())
