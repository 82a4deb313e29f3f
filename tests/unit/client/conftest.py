"""An imagined ingest and a tiny world, for the client's tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import orjson
import pytest
from pydantic import ValidationError

from flywheel.client.ingest_client import IngestClient
from flywheel.contracts.events import to_us
from flywheel.kernel import catalog
from flywheel.kernel.durations import DAY_US, SECOND_US
from flywheel.kernel.world import Day, Occurrence, Truth
from usecases.fraud.simulation.start import START


@dataclass
class FakeIngest:
    """Answers as ingest does. Each entry of `failures` is spent on one request: an HTTP status or a broken line."""

    failures: list[int | Exception] = field(default_factory=list)
    kept: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)
    """Accepted events in their order of arrival, redelivered ones included."""
    backfilled: list[bool] = field(default_factory=list)
    """Of each kept event, whether its request said so."""
    keep_despite_failure: bool = False
    pauses: list[float] = field(default_factory=list)
    on_request: Callable[[], None] = lambda: None

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.on_request()
        _, _, usecase, event_name, *_ = request.url.path.split("/")
        event = catalog.load(usecase).event_named(event_name)
        failure = self.failures.pop(0) if self.failures else None
        results: list[dict[str, Any]] = []
        for index, item in enumerate(orjson.loads(request.content)["events"]):
            result = {"index": index, "event_id": item.get("event_id"), "status": "accepted"}
            try:
                event.model_validate(item)
            except ValidationError as error:
                errors = [
                    {"field": str(e["loc"][0]), "reason": e["msg"], "hint": "as declared"} for e in error.errors()
                ]
                result |= {"status": "rejected", "problem": {"title": "invalid", "errors": errors}}
            else:
                if failure is None or self.keep_despite_failure:
                    self.kept.append((event_name, item))
                    self.backfilled.append(request.headers.get("flywheel-backfill") == "true")
            results.append(result)
        if isinstance(failure, Exception):
            raise failure
        if failure is not None:
            return httpx.Response(failure, json={"title": "no"}, headers={"retry-after": "1"})
        rejected = sum(result["status"] == "rejected" for result in results)
        return httpx.Response(200, json={"accepted": len(results) - rejected, "rejected": rejected, "results": results})

    @property
    def ids(self) -> list[str]:
        return [str(item["event_id"]) for _, item in self.kept]

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)

    def client(self, patience_s: float | None = None) -> IngestClient:
        http = httpx.AsyncClient(transport=httpx.MockTransport(self.answer), base_url="http://ingest")
        return IngestClient(http, "fraud", patience_s=patience_s, sleep=self.pause)


@dataclass
class TinyWorld:
    """Every hour a payment, every day a chargeback at noon."""

    start_us: int = to_us(START)
    daily_requests: float = 24.0

    def day(self, number: int) -> Day:
        first_us = self.start_us + number * DAY_US
        events = [
            Occurrence("transaction", first_us + hour * 3_600 * SECOND_US, self._payment(number, hour))
            for hour in range(24)
        ]
        dispute = {
            **self._payment(number, 12),
            "event_id": f"cb-{number}-0",
            "transaction_id": f"tx-{number}-0",
        }
        events.insert(13, Occurrence("chargeback", first_us + 12 * 3_600 * SECOND_US, dispute))
        return Day(number, events, (Truth(f"tx-{number}-0", "made_up"),))

    def _payment(self, number: int, hour: int) -> dict[str, Any]:
        return {
            "event_id": f"tx-{number}-{hour}",
            "event_time": f"2018-04-{number + 1:02d}T{hour:02d}:00:00Z",
            "card_id": "c000001",
            "terminal_id": "t000002",
            "amount_cents": 100 + hour,
        }


@pytest.fixture
def ingest() -> FakeIngest:
    return FakeIngest()


@pytest.fixture
def world() -> TinyWorld:
    return TinyWorld()
