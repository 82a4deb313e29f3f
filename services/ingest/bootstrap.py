"""Puts ingest together; the only place that chooses its parts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

from fastapi import FastAPI

from flywheel.adapters.http_docs import mount_docs
from flywheel.adapters.http_problem import handle_problems
from flywheel.adapters.http_requests import RequestBoundary
from flywheel.adapters.kafka_log import KafkaEventLog
from flywheel.adapters.kafka_tail import newest_records
from flywheel.adapters.kafka_topics import create_topics
from flywheel.adapters.logs import logger
from flywheel.adapters.tracing import UNTRACED, Tracing, open_tracing
from flywheel.contracts.events import Envelope, Event
from flywheel.contracts.metrics import INGEST_IN_FLIGHT
from flywheel.contracts.topics import Topic, event_topic, topics_of
from flywheel.kernel import catalog
from flywheel.kernel.declaration import UseCase
from flywheel.kernel.durations import parse_duration
from flywheel.kernel.ports import EventLog, Record, Unavailable
from services.ingest.documentation import EventSchemas, document
from services.ingest.event_clock import EventClock
from services.ingest.intake import Intake
from services.ingest.routes import clock_routes, event_routes, health_routes
from services.ingest.settings import IngestSettings

MakeTopics = Callable[[tuple[Topic, ...]], object]
Newest = Callable[[str], Sequence[Record]]

_REMEMBERED = 100
"""Records a partition that tell where a stream's clock stood; a few of them may have been late."""

_log = logger(__name__)


def kafka_app(settings: IngestSettings) -> FastAPI:
    """Ingest on the broker that the settings name."""
    log = KafkaEventLog(
        settings.kafka_bootstrap,
        delivery_timeout_s=settings.ingest_delivery_timeout_s,
        max_in_flight=settings.ingest_max_in_flight_events,
        on_in_flight=INGEST_IN_FLIGHT.set,
    )
    return build(
        settings,
        log,
        partial(create_topics, settings.kafka_bootstrap, timeout_s=5.0),
        partial(newest_records, settings.kafka_bootstrap, per_partition=_REMEMBERED, timeout_s=5.0),
        tracing=open_tracing("ingest", settings),
    )


def build(
    settings: IngestSettings,
    log: EventLog,
    make_topics: MakeTopics,
    newest: Newest,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    *,
    tracing: Tracing = UNTRACED,
) -> FastAPI:
    """Ingest on any log.

    `make_topics`, and then `newest`, which reads a topic's last records, are called until they succeed; until then
    the app is not ready.
    """
    usecases = [catalog.load(name) for name in settings.served_usecases]
    clocks = {usecase.name: _event_clock(usecase, settings, clock) for usecase in usecases}
    intakes = [
        Intake(
            usecase.name,
            event,
            log=log,
            clock=clocks[usecase.name],
            max_event_bytes=settings.ingest_max_event_bytes,
        )
        for usecase in usecases
        for event in usecase.events
    ]
    topics = _Topics(usecases, make_topics, clocks, newest)

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
            await asyncio.gather(making, return_exceptions=True)
            await log.close()
            await asyncio.to_thread(tracing.close)

    app = FastAPI(
        title="Flywheel ingest",
        version="1",
        description="One door for all events. An answer of 202 or 200 means that the broker has them durably.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    handle_problems(app)
    app.add_middleware(RequestBoundary, max_requests=settings.ingest_max_requests)
    app.include_router(health_routes(ready))
    app.include_router(clock_routes(clocks))
    schemas = EventSchemas([intake.schema.event for intake in intakes])
    app.include_router(event_routes(intakes, schemas, settings, tracing))
    document(app, schemas)
    mount_docs(app)
    return app


def _event_clock(usecase: UseCase, settings: IngestSettings, wall: Callable[[], datetime]) -> EventClock:
    is_played = settings.world_enabled and bool(usecase.world)
    lateness = timedelta(microseconds=parse_duration(usecase.lateness)) if is_played else None
    return EventClock(wall, max_ahead=timedelta(seconds=settings.ingest_max_ahead_s), lateness=lateness)


class _Topics:
    """The topics that the served use cases need, and the clocks that go on where the topics end."""

    def __init__(
        self, usecases: list[UseCase], make_topics: MakeTopics, clocks: Mapping[str, EventClock], newest: Newest
    ) -> None:
        self._usecases = usecases
        self._make_topics = make_topics
        self._clocks = clocks
        self._newest = newest
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
                await asyncio.to_thread(self._restore_clocks)
                self.made = True
            except Unavailable as error:
                _log.warning("topics_not_made", reason=str(error))
                await asyncio.sleep(1.0)

    def _restore_clocks(self) -> None:
        for usecase in self._usecases:
            clock = self._clocks[usecase.name]
            if not clock.known:
                clock.restore([moment for event in usecase.events for moment in self._event_times(usecase, event)])

    def _event_times(self, usecase: UseCase, event: type[Event]) -> list[datetime]:
        moments = []
        for record in self._newest(event_topic(usecase.name, event.event_name).name):
            try:
                moments.append(event.model_validate(Envelope.from_bytes(record.value).event).event_time)
            except ValueError as error:
                # Somebody else wrote to the topic; ingest never does such a thing.
                _log.warning("foreign_record", topic=record.topic, offset=record.offset, reason=type(error).__name__)
        return moments
