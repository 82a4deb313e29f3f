"""What the monitor makes of rankings: decisions to show, judged by their labels and not by money."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from flywheel.contracts.events import Envelope, iso_utc
from flywheel.contracts.models import Deployment
from flywheel.contracts.topics import decisions_topic, event_topic
from flywheel.kernel.erasure import EraseKey
from flywheel.kernel.ports import Record
from services.monitor import outcomes
from services.monitor.observations import Observations
from tests.ranking_declaration import USECASE, Click, Impression
from tests.ranking_rows import ranking

AT = datetime(2024, 5, 1, tzinfo=UTC)
KEY = EraseKey(b"secret", USECASE.name)


def _seen() -> Observations:
    """One ranking of two impressions, of which the first was clicked, and an hour more."""
    click = Click(event_id="c1", event_time=AT + timedelta(minutes=1), impression_id="visit-1:a", user_id="user-1")
    later = Impression(event_id="later", event_time=AT + timedelta(hours=2), user_id="user-2", item_id="a", page=1)
    topics = {
        decisions_topic("shop").name: ranking(AT, AT, features=((1.5, 2.0), (2.5, 3.0))).to_bytes(),
        event_topic("shop", "click").name: Envelope.seal(click, ingest_time=AT, request_id="r").to_bytes(),
        event_topic("shop", "impression").name: Envelope.seal(later, ingest_time=AT, request_id="r").to_bytes(),
    }
    observations = Observations(USECASE, KEY, window=10, capacity=10)
    observations.read([Record(topic, 0, 0, b"k", value) for topic, value in topics.items()])
    return observations


def test_each_candidate_shown_is_a_decision_and_meets_its_label() -> None:
    seen = _seen()
    assert (seen.decisions, seen.counts) == (2, {"labels": 1})
    assert [one.event_id for one in seen.recent] == ["visit-1:a", "visit-1:b"]
    found = seen.ledger.outcomes()
    assert found.matured.all()
    assert dict(zip(found.score.tolist(), found.positive.tolist(), strict=True)) == {0.75: True, 0.25: False}
    assert iso_utc(seen.recent[0].event_time) == iso_utc(AT)


def test_quality_is_told_without_money_and_arms_are_not_compared_by_it() -> None:
    found = _seen().ledger.outcomes()
    quality = outcomes.quality(found, None)
    assert (quality.decisions, quality.positives, quality.auc) == (2, 1, 1.0)
    assert (quality.saved_cents, quality.saved_share) == (None, None)
    deployment = Deployment(
        sequence=1,
        usecase="shop",
        deployed_at=AT,
        deployed_by="test",
        reason="test",
        champion="v1",
        challenger="v2",
        challenger_share=0.5,
        salt="s",
    )
    assert outcomes.compare_arms(found, deployment, USECASE) is None
