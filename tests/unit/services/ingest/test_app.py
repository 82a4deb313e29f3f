"""The real ingest app on a broker in memory: what is accepted, what is refused and how it is told."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx
import orjson
import pytest
from prometheus_client import REGISTRY

from flywheel.adapters.memory_log import MemoryBroker, MemoryEventLog
from flywheel.contracts.events import Envelope
from flywheel.contracts.topics import Topic
from flywheel.kernel.ports import Unavailable
from services.ingest.bootstrap import build
from services.ingest.settings import IngestSettings

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ONE = "/v1/fraud/transaction"
BATCH = "/v1/fraud/transaction/batch"
TOPIC = "fraud.events.transaction"
JSON = {"content-type": "application/json"}


def transaction(**fields: Any) -> dict[str, Any]:
    made = {
        "event_id": uuid.uuid4().hex,
        "event_time": "2018-04-01T00:00:31Z",
        "card_id": "c1",
        "terminal_id": "t1",
        "amount_cents": 1234,
    }
    return {**made, **fields}


@dataclass
class Door:
    """The app, its broker and a client."""

    client: httpx.AsyncClient
    broker: MemoryBroker
    topics: list[Topic] = field(default_factory=list)

    def kept(self) -> list[Envelope]:
        return [Envelope.from_bytes(record.value) for record in self.broker.records(TOPIC)]

    async def send(self, path: str, body: Any, **headers: str) -> httpx.Response:
        return await self.client.post(path, content=json.dumps(body), headers={**JSON, **headers})


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    broker = MemoryBroker()
    made: list[Topic] = []

    def make_topics(wanted: Sequence[Topic]) -> None:
        if broker.away:
            raise Unavailable("no broker")
        made.extend(wanted)

    settings = IngestSettings(
        world_enabled=False,
        ingest_usecases=("fraud",),
        ingest_max_batch_events=10,
        ingest_max_event_bytes=1_000,
        ingest_max_batch_bytes=10_000,
        ingest_body_timeout_s=0.2,
    )
    app = build(settings, MemoryEventLog(broker), make_topics, broker.records, clock=lambda: NOW)
    transport = httpx.ASGITransport(app=app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://door") as c:
        yield Door(c, broker, made)


def assert_problem(answer: httpx.Response, status: int, kind: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["type"] == f"urn:flywheel:problem:{kind}"
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    return body


async def test_an_accepted_event_is_in_the_log_as_it_was_sent(door: Door) -> None:
    event = transaction(event_time="2018-04-01T02:00:31.5+02:00")
    answer = await door.send(ONE, event, **{"X-Request-Id": "r-1"})
    assert answer.status_code == 202
    assert answer.json() == {"event_id": event["event_id"], "status": "accepted"}
    (record,) = door.broker.records(TOPIC)
    assert record.key == b"c1"
    assert orjson.loads(record.value) == {
        "event": {**event, "event_time": "2018-04-01T00:00:31.500000Z"},
        "ingest_time": "2026-01-02T03:04:05.000000Z",
        "request_id": "r-1",
        "backfilled": False,
    }


@pytest.mark.parametrize(("said", "kept"), [("true", True), ("True", True), ("false", False)])
async def test_events_are_backfilled_where_the_request_says_so(door: Door, said: str, kept: bool) -> None:
    header = {"Flywheel-Backfill": said}
    assert (await door.send(ONE, transaction(), **header)).status_code == 202
    assert (await door.send(BATCH, {"events": [transaction(), transaction()]}, **header)).json()["accepted"] == 2
    assert [envelope.backfilled for envelope in door.kept()] == [kept] * 3


@pytest.mark.parametrize("said", ["yes", "1", ""])
async def test_a_backfill_header_that_says_neither_is_refused(door: Door, said: str) -> None:
    for path, body in ((ONE, transaction()), (BATCH, {"events": [transaction()]})):
        problem = assert_problem(await door.send(path, body, **{"Flywheel-Backfill": said}), 422, "invalid-event")
        assert problem["errors"][0]["field"] == "Flywheel-Backfill"
    assert door.kept() == []


@pytest.mark.parametrize(
    ("fields", "where", "tells"),
    [
        ({"amount_cents": "12"}, "amount_cents", "for example 1250"),
        ({"amount_cents": 0}, "amount_cents", "for example"),
        ({"amount_cents": 10**40}, "amount_cents", "for example"),
        ({"card_id": ""}, "card_id", '"card-1"'),
        ({"terminal_id": {"deep": []}}, "terminal_id", '"terminal-1"'),
        ({"colour": "red"}, "colour", "leave it out; the fields are event_id,"),
        ({"event_time": "2018-04-01T00:00:31"}, "event_time", 'end it with "Z"'),
        ({"event_time": 1522540800}, "event_time", "2018-04-01T00:00:31Z"),
        ({"event_time": "2026-01-02T03:09:06Z"}, "event_time", "clock"),
        ({"event_time": "1969-12-31T23:59:59Z"}, "event_time", "clock"),
    ],
)
async def test_a_bad_event_is_refused_by_field_reason_and_hint(
    door: Door, fields: dict[str, Any], where: str, tells: str
) -> None:
    body = assert_problem(await door.send(ONE, transaction(**fields)), 422, "invalid-event")
    (error,) = body["errors"]
    assert error["field"] == where
    assert error["reason"]
    assert tells in error["hint"]
    assert door.kept() == []


async def test_all_that_is_wrong_is_told_at_once(door: Door) -> None:
    body = assert_problem(await door.send(ONE, {"event_id": "a b"}), 422, "invalid-event")
    fields = [error["field"] for error in body["errors"]]
    assert fields == ["event_id", "event_time", "card_id", "terminal_id", "amount_cents"]


async def test_an_event_just_inside_the_clock_tolerance_is_accepted(door: Door) -> None:
    assert (await door.send(ONE, transaction(event_time="2026-01-02T03:09:05Z"))).status_code == 202


@pytest.mark.parametrize("body", [[], "text", 7, None, True])
async def test_what_is_no_object_is_refused(door: Door, body: object) -> None:
    assert_problem(await door.send(ONE, body), 422, "invalid-event")


@pytest.mark.parametrize("raw", [b"", b"{", b'{"amount_cents": NaN}', b'{"a": Infinity}', b"\xff", b'"\\ud800"'])
async def test_what_is_no_json_is_refused(door: Door, raw: bytes) -> None:
    answer = await door.client.post(ONE, content=raw, headers=JSON)
    assert_problem(answer, 400, "malformed-json")


async def test_deep_nesting_is_refused(door: Door) -> None:
    answer = await door.client.post(BATCH, content=b"[" * 4_000 + b"]" * 4_000, headers=JSON)
    assert_problem(answer, 400, "malformed-json")


async def test_another_content_type_or_encoding_is_refused(door: Door) -> None:
    raw = orjson.dumps(transaction())
    for headers, kind in (
        ({"content-type": "text/plain"}, "unsupported-media-type"),
        ({}, "unsupported-media-type"),
        ({**JSON, "content-encoding": "gzip"}, "unsupported-encoding"),
    ):
        assert_problem(await door.client.post(ONE, content=raw, headers=headers), 415, kind)
    accepted = await door.client.post(ONE, content=raw, headers={"content-type": "Application/JSON; charset=utf-8"})
    assert accepted.status_code == 202


async def test_in_a_batch_the_good_ones_go_on(door: Door) -> None:
    good, bad, same = transaction(), transaction(amount_cents=-1), transaction(event_id="same")
    answer = await door.send(BATCH, {"events": [good, bad, same, same, 5]})
    assert answer.status_code == 200
    body = answer.json()
    assert (body["accepted"], body["rejected"]) == (3, 2)
    statuses = [(result["index"], result["event_id"], result["status"]) for result in body["results"]]
    assert statuses == [
        (0, good["event_id"], "accepted"),
        (1, bad["event_id"], "rejected"),
        (2, "same", "accepted"),
        (3, "same", "accepted"),
        (4, None, "rejected"),
    ]
    assert body["results"][1]["problem"]["errors"][0]["field"] == "amount_cents"
    assert [envelope.event["event_id"] for envelope in door.kept()] == [good["event_id"], "same", "same"]


async def test_a_batch_keeps_its_order(door: Door) -> None:
    for start in (0, 10, 20):
        events = [transaction(event_id=str(start + number)) for number in range(10)]
        assert (await door.send(BATCH, {"events": events})).json()["accepted"] == 10
    assert [envelope.event["event_id"] for envelope in door.kept()] == [str(number) for number in range(30)]


@pytest.mark.parametrize("body", [[], {}, {"events": {}}, {"events": [], "more": 1}, "events"])
async def test_what_is_no_batch_is_refused(door: Door, body: object) -> None:
    problem = assert_problem(await door.send(BATCH, body), 422, "invalid-event")
    assert problem["errors"][0]["field"] == "events"


async def test_an_empty_batch_is_harmless(door: Door) -> None:
    assert (await door.send(BATCH, {"events": []})).json() == {"accepted": 0, "rejected": 0, "results": []}


async def test_too_many_events_are_refused(door: Door) -> None:
    assert_problem(await door.send(BATCH, {"events": [1] * 11}), 413, "too-large")


@pytest.mark.parametrize(("path", "limit"), [(ONE, 1_000), (BATCH, 10_000)])
async def test_a_large_body_is_refused_before_it_is_read(door: Door, path: str, limit: int) -> None:
    sent = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 50 * limit:
            sent += 500
            yield b" " * 500

    declared = {**JSON, "content-length": str(limit + 1)}
    assert_problem(await door.client.post(path, content=chunks(), headers=declared), 413, "too-large")
    assert sent == 0
    assert_problem(await door.client.post(path, content=chunks(), headers=JSON), 413, "too-large")
    assert sent <= limit + 1_000


async def test_an_event_of_a_batch_has_the_single_event_s_bound(door: Door) -> None:
    long_id = "x" * 1_001
    body = (await door.send(BATCH, {"events": [transaction(card_id=long_id)]})).json()
    assert body["rejected"] == 1
    assert long_id not in str(body)


async def test_a_body_that_does_not_come_is_given_up(door: Door) -> None:
    async def never() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    assert_problem(await door.client.post(ONE, content=never(), headers=JSON), 408, "slow-body")


async def test_while_the_broker_is_away_the_client_is_told_to_come_again(door: Door) -> None:
    event = transaction()
    door.broker.away = True
    one = await door.send(ONE, event)
    assert_problem(one, 503, "unavailable")
    batch = await door.send(BATCH, {"events": [event, transaction(amount_cents=0)]})
    body = assert_problem(batch, 503, "unavailable")
    assert {one.headers["retry-after"], batch.headers["retry-after"]} == {"1"}
    assert (body["accepted"], body["rejected"], body["unavailable"]) == (0, 1, 1)
    assert [result["status"] for result in body["results"]] == ["unavailable", "rejected"]
    assert door.kept() == []
    door.broker.away = False
    assert (await door.send(ONE, event)).status_code == 202


async def test_unknown_use_cases_and_events_are_told_what_exists(door: Door) -> None:
    usecase = assert_problem(await door.send("/v1/nothing/transaction", {}), 404, "unknown-event")
    assert "fraud" in usecase["detail"]
    event = assert_problem(await door.send("/v1/fraud/refund/batch", {}), 404, "unknown-event")
    assert "transaction, chargeback" in event["detail"]
    assert_problem(await door.client.get("/elsewhere"), 404, "not-found")
    assert_problem(await door.client.get(ONE), 405, "method-not-allowed")


async def test_the_request_id_is_the_client_s_or_a_new_one(door: Door) -> None:
    given = await door.send(ONE, transaction(), **{"X-Request-Id": "abc-1"})
    assert given.headers["x-request-id"] == "abc-1"
    made = {(await door.send(ONE, transaction())).headers["x-request-id"] for _ in range(2)}
    hostile = (await door.send(ONE, transaction(), **{"X-Request-Id": 'x" {"a":1}'})).headers["x-request-id"]
    assert len({*made, hostile}) == 3
    assert len(hostile) == 32
    refused = await door.send("/v1/none/none", {}, **{"X-Request-Id": "abc-2"})
    assert refused.headers["x-request-id"] == "abc-2"


async def test_events_are_counted_by_what_became_of_them(door: Door) -> None:
    def counted() -> list[float]:
        labels = {"usecase": "fraud", "event": "transaction"}
        return [
            REGISTRY.get_sample_value("flywheel_ingest_events_total", {**labels, "outcome": outcome}) or 0.0
            for outcome in ("accepted", "invalid", "unavailable")
        ]

    before = counted()
    await door.send(BATCH, {"events": [transaction(), transaction(), transaction(card_id=1)]})
    door.broker.away = True
    await door.send(ONE, transaction())
    assert [after - start for after, start in zip(counted(), before, strict=True)] == [2, 1, 1]
    assert b"flywheel_ingest_request_seconds_bucket" in (await door.client.get("/metrics")).content


async def test_personal_values_do_not_reach_the_logs(
    door: Door, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    secret = "4111-1111-secret"
    await door.send(BATCH, {"events": [transaction(card_id=secret, amount_cents=secret, **{secret: secret})]})
    printed = capsys.readouterr()
    logged = printed.out + printed.err + caplog.text
    assert "events_rejected" in logged
    assert secret not in logged


async def test_ready_means_topics_made_and_broker_there(door: Door) -> None:
    async with asyncio.timeout(5):
        while (await door.client.get("/readyz")).status_code != 200:
            await asyncio.sleep(0.01)
    assert [topic.name for topic in door.topics][:2] == [TOPIC, "fraud.events.chargeback"]
    door.broker.away = True
    assert (await door.client.get("/readyz")).status_code == 503
    assert (await door.client.get("/healthz")).status_code == 200
