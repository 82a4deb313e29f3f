"""Asks for a training run and waits for how it ended."""

from __future__ import annotations

import asyncio
import time
import uuid
from datetime import UTC, datetime

from flywheel.adapters.kafka_log import KafkaEventLog
from flywheel.adapters.kafka_reader import KafkaReader
from flywheel.adapters.telling import Tell
from flywheel.client.errors import ClientError
from flywheel.contracts.settings import PlatformSettings
from flywheel.contracts.topics import training_requests_topic, training_results_topic
from flywheel.contracts.training import TrainingFinished, TrainingRequested
from flywheel.kernel.ports import EventLog, RecordReader, Unavailable

_POLL_S = 0.5
_POLLED_AT_ONCE = 100
_TELL_EVERY_S = 10.0


async def request_training(log: EventLog, usecase: str, reason: str, *, now: datetime) -> TrainingRequested:
    """Publishes a request. Raises Unavailable when the broker did not acknowledge it."""
    request = TrainingRequested(request_id=uuid.uuid4().hex, requested_at=now, reason=reason)
    topic = training_requests_topic(usecase).name
    (problem,) = await log.append(topic, [(request.request_id.encode(), request.to_bytes())])
    if problem:
        raise problem
    return request


def await_result(
    reader: RecordReader, request_id: str, timeout_s: float, tell: Tell = lambda _: None
) -> TrainingFinished | None:
    """How the run of that request ended; None when it had not within the time. Tells now and then that it waits."""
    began_s = told_s = time.monotonic()
    while (left_s := began_s + timeout_s - time.monotonic()) > 0:
        if time.monotonic() - told_s > _TELL_EVERY_S:
            told_s = time.monotonic()
            tell(f"training for {told_s - began_s:.0f} s; `make logs P=trainer` follows it")
        for record in reader.poll(min(left_s, _POLL_S), _POLLED_AT_ONCE):
            finished = TrainingFinished.model_validate_json(record.value)
            if finished.request_id == request_id:
                return finished
    return None


async def train(
    usecase: str, settings: PlatformSettings, reason: str, *, wait_s: float | None, tell: Tell
) -> tuple[TrainingRequested, TrainingFinished | None]:
    """Requests training and, with `wait_s`, waits that long for the result, telling meanwhile how long it takes."""
    log = KafkaEventLog(settings.kafka_bootstrap)
    try:
        request = await request_training(log, usecase, reason, now=datetime.now(UTC))
    except Unavailable as error:
        raise ClientError(
            f"the broker does not answer at {settings.kafka_bootstrap} ({error}); is the stack up? `make status`"
        ) from error
    finally:
        await log.close()
    if wait_s is None:
        return request, None
    # The topic is short and kept whole, so a group of its own reads it from the start and misses nothing.
    results = training_results_topic(usecase).name
    reader = KafkaReader(settings.kafka_bootstrap, [results], f"client-{request.request_id}")
    try:
        return request, await asyncio.to_thread(await_result, reader, request.request_id, wait_s, tell)
    finally:
        reader.close()
