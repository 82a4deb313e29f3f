"""One trace over the processes that an event goes through."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import httpx

from flywheel.adapters.memory_erasures import MemoryErasures
from flywheel.adapters.memory_log import MemoryBroker, MemoryEventLog
from flywheel.adapters.memory_store import MemoryFeatureStore
from flywheel.adapters.tracing import OtlpTracing
from flywheel.kernel import catalog
from flywheel.kernel.erasure import EraseKey
from flywheel.kernel.plan import compile_plan
from flywheel.kernel.ports import Record
from flywheel.kernel.state import mark_of
from services.features.edge.lane import EdgeLane
from services.features.edge.pursuit import Pursuit
from services.ingest.bootstrap import build
from services.ingest.settings import IngestSettings
from tests.trace_collector import collecting

PLAN = compile_plan(catalog.load("fraud"))
TOPIC = "fraud.events.transaction"
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
EVENT = {
    "event_id": "tx-1",
    "event_time": "2018-04-01T00:00:31Z",
    "card_id": "c1",
    "terminal_id": "t1",
    "amount_cents": 1234,
}


@dataclass
class Log:
    """The broker's only record, for the edge."""

    records: list[Record]

    def start(self, positions: Mapping[tuple[str, int], int]) -> None: ...

    def poll(self, timeout_s: float, limit: int) -> list[Record]:  # noqa: ARG002  memory answers at once
        return self.records

    def ends(self) -> Mapping[tuple[str, int], int]:
        return {(TOPIC, 0): 1}


async def test_an_event_is_followed_from_its_request_until_decisions_can_see_it() -> None:
    with collecting() as collector:
        ingest, edge = (OtlpTracing(name, collector.url, share=0.0) for name in ("ingest", "edge"))
        await _send(MemoryEventLog(broker := MemoryBroker(partitions=1)), ingest)
        _make_visible(broker.records(TOPIC), edge)
        edge.close()
    taken, visible = collector.named("take fraud transaction"), collector.named("make visible")
    assert {service for service, _ in collector.spans} == {"flywheel-ingest", "flywheel-edge"}
    assert taken.trace_id.hex() == visible.trace_id.hex() == PARENT.split("-")[1]
    assert visible.parent_span_id == taken.span_id
    told = {each.key: each.value.string_value for each in visible.attributes}
    assert told["messaging.destination.name"] == TOPIC
    assert not any("c1" in str(span) for _, span in collector.spans), "personal fields have no place in a trace"


async def _send(log: MemoryEventLog, tracing: OtlpTracing) -> None:
    settings = IngestSettings(world_enabled=False, ingest_usecases=("fraud",))
    app = build(settings, log, lambda _: None, lambda _: [], tracing=tracing)
    transport = httpx.ASGITransport(app=app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://door") as door:
        answer = await door.post("/v1/fraud/transaction", json=EVENT, headers={"traceparent": PARENT})
        assert answer.status_code == 202


def _make_visible(records: list[Record], tracing: OtlpTracing) -> None:
    store, log = MemoryFeatureStore(PLAN), Log(records)
    store.absorb({0: mark_of(0, 0)}, None)
    lane = EdgeLane(PLAN, store, MemoryErasures(EraseKey(b"key", "fraud")))
    pursuit = Pursuit(PLAN, lane, store, log, log, tracing=tracing)
    pursuit.observe()
    assert pursuit.step()
