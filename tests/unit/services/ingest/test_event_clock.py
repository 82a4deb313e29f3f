"""A played world has its own present: nobody's event may make all the others late."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from flywheel.adapters.memory_log import MemoryBroker, MemoryEventLog
from flywheel.kernel.ports import Record, Unavailable
from services.ingest.bootstrap import build
from services.ingest.event_clock import EventClock
from services.ingest.settings import IngestSettings
from services.ingest.validation import InvalidEvent

NOW = datetime(2026, 1, 2, tzinfo=UTC)
THEN = datetime(2018, 4, 1, tzinfo=UTC)
DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)


def clock(lateness: timedelta | None) -> EventClock:
    return EventClock(lambda: NOW, max_ahead=5 * MINUTE, lateness=lateness)


def test_the_wall_clock_rules_a_stream_without_a_world() -> None:
    wall = clock(None)
    assert wall.known
    wall.admit(THEN, NOW)
    wall.admit(NOW, NOW)
    assert wall.now() == NOW
    with pytest.raises(InvalidEvent):
        wall.admit(NOW + 6 * MINUTE, NOW)


def test_a_played_stream_goes_on_from_its_newest_event() -> None:
    played = clock(DAY)
    played.restore([])
    assert played.now() is None
    played.admit(THEN, NOW)
    played.admit(THEN - 30 * DAY, NOW)
    assert played.now() == THEN
    with pytest.raises(InvalidEvent) as refused:
        played.admit(THEN + DAY + MINUTE, NOW)
    assert refused.value.errors[0].field == "event_time"
    assert "2018-04-01" in refused.value.errors[0].reason
    assert "more than 24 h ahead" in refused.value.errors[0].reason
    assert "ARGS=--align" in refused.value.errors[0].hint
    assert "make up WORLD=off" in refused.value.errors[0].hint
    played.admit(THEN + DAY, NOW)
    played.admit(THEN + 2 * DAY, NOW)
    assert played.now() == THEN + 2 * DAY


@pytest.mark.parametrize(
    ("lateness", "words"), [(DAY, "24 h"), (90 * MINUTE, "90 min"), (timedelta(seconds=45), "45 s")]
)
def test_the_lateness_is_told_in_whole_units(lateness: timedelta, words: str) -> None:
    played = clock(lateness)
    played.restore([THEN])
    with pytest.raises(InvalidEvent) as refused:
        played.admit(THEN + 2 * lateness, NOW)
    assert f"more than {words} ahead" in refused.value.errors[0].reason


def test_a_played_stream_knows_nothing_before_it_is_restored() -> None:
    played = clock(DAY)
    before = played.known
    played.restore([THEN, THEN + DAY])
    assert (before, played.known) == (False, True)
    assert played.now() == THEN + DAY


def body(event_time: datetime, event_id: str = "e1") -> str:
    event: dict[str, Any] = {"event_id": event_id, "event_time": event_time.isoformat()}
    return json.dumps({**event, "card_id": "c1", "terminal_id": "t1", "amount_cents": 5})


@asynccontextmanager
async def played_door(broker: MemoryBroker, newest: Callable[[str], list[Record]]) -> AsyncIterator[httpx.AsyncClient]:
    settings = IngestSettings(world_enabled=True, ingest_usecases=("fraud",))
    app = build(settings, MemoryEventLog(broker), lambda _: None, newest, clock=lambda: NOW)
    transport = httpx.ASGITransport(app=app)
    headers = {"content-type": "application/json"}
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://door", headers=headers) as client,
    ):
        yield client


async def ready(client: httpx.AsyncClient) -> None:
    async with asyncio.timeout(5):
        while (await client.get("/readyz")).status_code != 200:
            await asyncio.sleep(0.01)


async def test_the_clock_survives_a_restart_and_foreign_records() -> None:
    broker = MemoryBroker()
    async with played_door(broker, broker.records) as client:
        await ready(client)
        assert (await client.get("/v1/fraud/clock")).json() == {"clock": "world", "now": None}
        assert (await client.post("/v1/fraud/transaction", content=body(THEN))).status_code == 202
    await MemoryEventLog(broker).append("fraud.events.transaction", [(b"k", b"no envelope")])
    async with played_door(broker, broker.records) as client:
        await ready(client)
        assert (await client.get("/v1/fraud/clock")).json()["now"].startswith("2018-04-01T00:00:00")
        refused = await client.post("/v1/fraud/transaction", content=body(NOW, "e2"))
        assert refused.status_code == 422
        assert refused.json()["errors"][0]["field"] == "event_time"


async def test_nothing_is_accepted_or_told_before_the_clock_is_known() -> None:
    def unreadable(_: str) -> list[Record]:
        raise Unavailable("no broker")

    async with played_door(MemoryBroker(), unreadable) as client:
        for answer in (
            await client.post("/v1/fraud/transaction", content=body(THEN)),
            await client.get("/v1/fraud/clock"),
        ):
            assert answer.status_code == 503
            assert answer.headers["retry-after"]
