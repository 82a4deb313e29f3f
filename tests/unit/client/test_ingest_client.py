"""The client of ingest goes on until every event has a definite answer."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Protocol

import httpx
import pytest

from flywheel.client.errors import IngestUnreachable, PresentUnknown, RequestRefused
from flywheel.client.ingest_client import IngestClient


class Ingest(Protocol):
    failures: list[Any]
    pauses: list[float]
    keep_despite_failure: bool

    @property
    def ids(self) -> list[str]: ...

    def client(self, patience_s: float | None = None) -> Any: ...


def payment(name: str, **changed: Any) -> dict[str, Any]:
    return {
        "event_id": name,
        "event_time": "2018-04-01T00:00:31Z",
        "card_id": "c1",
        "terminal_id": "t1",
        "amount_cents": 12,
    } | changed


async def test_good_events_are_accepted_and_bad_ones_come_back_with_field_and_reason(ingest: Ingest) -> None:
    events = [payment("a"), payment("b", amount_cents=-1), payment("c")]
    outcome = await ingest.client().send_batch("transaction", events)
    assert outcome.accepted == 2
    (rejection,) = outcome.rejections
    assert (rejection.index, rejection.event_id) == (1, "b")
    assert rejection.reason.startswith("amount_cents: ")
    assert ingest.ids == ["a", "c"]


@pytest.mark.parametrize("failure", [503, 429, 500, httpx.ConnectError("refused"), httpx.ReadTimeout("")])
async def test_the_batch_is_sent_again_until_its_fate_is_known(ingest: Ingest, failure: int | Exception) -> None:
    ingest.failures = [failure, failure]
    outcome = await ingest.client().send_batch("transaction", [payment("a"), payment("b")])
    assert (outcome.accepted, outcome.retries) == (2, 2)
    assert ingest.ids == ["a", "b"]


async def test_pauses_grow_up_to_a_bound_and_heed_retry_after(ingest: Ingest) -> None:
    ingest.failures = [httpx.ConnectError("refused")] * 9 + [503]
    await ingest.client().send_batch("transaction", [payment("a")])
    assert ingest.pauses[:3] == [0.1, 0.2, 0.4]
    assert max(ingest.pauses) == 5.0
    ingest.failures, ingest.pauses[:] = [503], []
    await ingest.client().send_batch("transaction", [payment("b")])
    assert ingest.pauses == [1.0]


async def test_patience_ends_with_the_way_out(ingest: Ingest) -> None:
    ingest.failures = [httpx.ConnectError("refused")] * 100
    with pytest.raises(IngestUnreachable, match=r"http://ingest.*refused.*make status"):
        await ingest.client(patience_s=10).send_batch("transaction", [payment("a")])


@pytest.mark.parametrize("status", [400, 404, 413])
async def test_a_refused_request_is_not_repeated(ingest: Ingest, status: int) -> None:
    ingest.failures = [status]
    with pytest.raises(RequestRefused, match=str(status)):
        await ingest.client().send_batch("transaction", [payment("a")])
    assert ingest.pauses == []


async def present(answer: httpx.Response | Exception) -> datetime | None:
    def tell(_: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        return answer

    async with httpx.AsyncClient(transport=httpx.MockTransport(tell), base_url="http://ingest") as http:
        return await IngestClient(http, "fraud").present()


async def test_the_present_is_what_ingest_says_and_nothing_before_the_first_event() -> None:
    said = {"clock": "world", "now": "2018-04-02T00:00:00Z"}
    assert await present(httpx.Response(200, json=said)) == datetime(2018, 4, 2, tzinfo=UTC)
    assert await present(httpx.Response(200, json={**said, "now": None})) is None


@pytest.mark.parametrize("answer", [httpx.ConnectError("refused"), httpx.ReadTimeout(""), httpx.Response(503)])
async def test_a_present_that_nobody_tells_is_not_guessed(answer: httpx.Response | Exception) -> None:
    with pytest.raises(PresentUnknown, match=r"http://ingest.*make status"):
        await present(answer)
