"""The endpoints: two for every declared event, health, metrics, and an answer that helps for every other path."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import orjson
from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import Response

from flywheel.adapters.http_problem import FieldError, Problem
from flywheel.adapters.tracing import SpanKind, Tracing
from flywheel.contracts.events import BACKFILL_HEADER
from flywheel.contracts.metadata import TRACEPARENT
from flywheel.contracts.metrics import INGEST_SECONDS
from services.ingest.answers import ClockAnswer, answer_batch, answer_one, clock_unknown, invalid
from services.ingest.bodies import read_json
from services.ingest.documentation import EventSchemas, batch_operation, event_operation
from services.ingest.event_clock import EventClock
from services.ingest.intake import Intake
from services.ingest.settings import IngestSettings

Handler = Callable[[Request], Awaitable[Response]]
Ready = Callable[[], Awaitable[tuple[bool, str]]]


def event_routes(
    intakes: Sequence[Intake], schemas: EventSchemas, settings: IngestSettings, tracing: Tracing
) -> APIRouter:
    """`POST /v1/{usecase}/{event}` and `…/batch` for every intake; 404 elsewhere below /v1, naming what exists."""
    router = APIRouter()
    for intake in intakes:
        event, example = intake.schema.event, intake.schema.example
        path = f"/v1/{intake.usecase}/{event.event_name}"
        router.add_api_route(
            path,
            _timed(intake, _one(intake, settings), tracing),
            methods=["POST"],
            status_code=202,
            name=f"{intake.usecase}_{event.event_name}",
            openapi_extra=event_operation(intake.usecase, event, schemas.reference(event), example),
        )
        router.add_api_route(
            f"{path}/batch",
            _timed(intake, _batch(intake, settings), tracing),
            methods=["POST"],
            name=f"{intake.usecase}_{event.event_name}_batch",
            openapi_extra=batch_operation(
                intake.usecase, event, schemas.reference(event), example, settings.ingest_max_batch_events
            ),
        )
    router.add_api_route("/v1/{path:path}", _unknown(intakes), methods=["POST"], include_in_schema=False)
    return router


def health_routes(ready: Ready) -> APIRouter:
    """`/healthz` (the process lives), `/readyz` (what it depends on answers), `/metrics`."""
    router = APIRouter(include_in_schema=False)

    async def healthz() -> Response:
        return Response(orjson.dumps({"status": "alive"}), media_type="application/json")

    async def readyz() -> Response:
        is_ready, detail = await ready()
        body = {"status": "ready" if is_ready else "not ready", "detail": detail}
        return Response(orjson.dumps(body), 200 if is_ready else 503, media_type="application/json")

    async def metrics() -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    for path, endpoint in (("/healthz", healthz), ("/readyz", readyz), ("/metrics", metrics)):
        router.add_api_route(path, endpoint, methods=["GET"])
    return router


def clock_routes(clocks: Mapping[str, EventClock]) -> APIRouter:
    """`GET /v1/{usecase}/clock`: the stream's present, near which new events should lie; null before the first.

    503 as long as it is not known where the stream stands.
    """
    router = APIRouter()
    for usecase, clock in clocks.items():
        router.add_api_route(f"/v1/{usecase}/clock", _clock(clock), methods=["GET"], name=f"{usecase}_clock")
    return router


def _clock(clock: EventClock) -> Callable[[], Awaitable[ClockAnswer]]:
    async def tell() -> ClockAnswer:
        if not clock.known:
            raise clock_unknown()
        return ClockAnswer(clock="wall" if clock.is_wall else "world", now=clock.now())

    return tell


def _one(intake: Intake, settings: IngestSettings) -> Handler:
    async def take_one(request: Request) -> Response:
        item = await read_json(
            request, max_bytes=settings.ingest_max_event_bytes, timeout_s=settings.ingest_body_timeout_s
        )
        (outcome,) = await intake.take(
            [item], request.state.request_id, backfilled=_is_backfill(request), trace=request.state.trace
        )
        return answer_one(outcome)

    return take_one


def _batch(intake: Intake, settings: IngestSettings) -> Handler:
    async def take_batch(request: Request) -> Response:
        body = await read_json(
            request, max_bytes=settings.ingest_max_batch_bytes, timeout_s=settings.ingest_body_timeout_s
        )
        items = _items(body, settings.ingest_max_batch_events)
        outcomes = await intake.take(
            items, request.state.request_id, backfilled=_is_backfill(request), trace=request.state.trace
        )
        return answer_batch(outcomes)

    return take_batch


def _is_backfill(request: Request) -> bool:
    said = request.headers.get(BACKFILL_HEADER, "false").strip().lower()
    if said not in ("true", "false"):
        raise invalid([FieldError(BACKFILL_HEADER, "Input should be true or false", "leave it out for live events")])
    return said == "true"


def _items(body: Any, limit: int) -> list[object]:
    if not isinstance(body, dict) or not isinstance(body.get("events"), list) or len(body) > 1:
        raise invalid(
            [FieldError("events", "Input should be an array", 'send {"events": [...]} and nothing beside it')]
        )
    items: list[object] = body["events"]
    if len(items) > limit:
        detail = f"{len(items)} events; at most {limit} are accepted in one batch"
        raise Problem(413, "too-large", "The batch is too large", detail)
    return items


def _timed(intake: Intake, handle: Handler, tracing: Tracing) -> Handler:
    event = intake.schema.event.event_name
    seconds = INGEST_SECONDS.labels(intake.usecase, event)
    name = f"take {intake.usecase} {event}"

    async def timed(request: Request) -> Response:
        started = time.perf_counter()
        try:
            parent = request.headers.get(TRACEPARENT, "")
            with tracing.span(name, parent, kind=SpanKind.SERVER) as request.state.trace:
                return await handle(request)
        finally:
            seconds.observe(time.perf_counter() - started)

    # FastAPI reads the annotations to know that the request itself is wanted.
    timed.__annotations__ = {"request": Request, "return": Response}
    return timed


def _unknown(intakes: Sequence[Intake]) -> Handler:
    offered: dict[str, list[str]] = {}
    for intake in intakes:
        offered.setdefault(intake.usecase, []).append(intake.schema.event.event_name)

    async def unknown(request: Request) -> Response:
        usecase = request.path_params["path"].partition("/")[0]
        if usecase in offered:
            detail = f"{usecase} has the events {', '.join(offered[usecase])}; POST one to /v1/{usecase}/<event>"
        else:
            detail = f"there are the use cases {', '.join(offered)}; POST an event to /v1/<usecase>/<event>"
        raise Problem(404, "unknown-event", "There is no such use case or event", detail)

    unknown.__annotations__ = {"request": Request, "return": Response}
    return unknown
