"""Puts ingest together; the only place that chooses its parts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from functools import partial

from fastapi import FastAPI

from flywheel.adapters.http_problem import handle_problems
from flywheel.adapters.http_requests import RequestBoundary
from flywheel.adapters.kafka_log import KafkaEventLog
from flywheel.adapters.kafka_topics import create_topics
from flywheel.adapters.logs import logger
from flywheel.contracts.metrics import INGEST_IN_FLIGHT
from flywheel.contracts.topics import Topic, topics_of
from flywheel.kernel import catalog
from flywheel.kernel.declaration import UseCase
from flywheel.kernel.ports import EventLog, Unavailable
from services.ingest.documentation import EventSchemas, document
from services.ingest.intake import Intake
from services.ingest.routes import event_routes, health_routes
from services.ingest.settings import IngestSettings

MakeTopics = Callable[[tuple[Topic, ...]], object]

_log = logger(__name__)


def kafka_app(settings: IngestSettings) -> FastAPI:
    """Ingest on the broker that the settings name."""
    log = KafkaEventLog(
        settings.kafka_bootstrap,
        delivery_timeout_s=settings.ingest_delivery_timeout_s,
        max_in_flight=settings.ingest_max_in_flight_events,
        on_in_flight=INGEST_IN_FLIGHT.set,
    )
    return build(settings, log, partial(create_topics, settings.kafka_bootstrap, timeout_s=5.0))


def build(
    settings: IngestSettings,
    log: EventLog,
    make_topics: MakeTopics,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> FastAPI:
    """Ingest on any log. `make_topics` is called until it succeeds; until then the app is not ready."""
    usecases = [catalog.load(name) for name in settings.served_usecases]
    intakes = [
        Intake(
            usecase.name,
            event,
            log=log,
            clock=clock,
            max_ahead_s=settings.ingest_max_ahead_s,
            max_event_bytes=settings.ingest_max_event_bytes,
        )
        for usecase in usecases
        for event in usecase.events
    ]
    topics = _Topics(usecases, make_topics)

    async def ready() -> tuple[bool, str]:
        if not topics.made:
            return False, "the topics are not made yet"
        return (True, "the broker answers") if await log.ready() else (False, "the broker does not answer")

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        making = asyncio.create_task(topics.make())
        try:
            yield
        finally:
            making.cancel()
            await log.close()

    app = FastAPI(
        title="Flywheel ingest",
        version="1",
        description="One door for all events. An answer of 202 or 200 means that the broker has them durably.",
        lifespan=lifespan,
    )
    handle_problems(app)
    app.add_middleware(RequestBoundary, max_requests=settings.ingest_max_requests)
    app.include_router(health_routes(ready))
    schemas = EventSchemas([intake.schema.event for intake in intakes])
    app.include_router(event_routes(intakes, schemas, settings))
    document(app, schemas)
    return app


class _Topics:
    """The topics that the served use cases need."""

    def __init__(self, usecases: list[UseCase], make_topics: MakeTopics) -> None:
        self._make_topics = make_topics
        self._wanted = tuple(
            topic
            for usecase in usecases
            for topic in topics_of(usecase.name, tuple(event.event_name for event in usecase.events))
        )
        self.made = False

    async def make(self) -> None:
        """Tries once a second until the broker has them."""
        while not self.made:
            try:
                await asyncio.to_thread(self._make_topics, self._wanted)
                self.made = True
            except Unavailable as error:
                _log.warning("topics_not_made", reason=str(error))
                await asyncio.sleep(1.0)
