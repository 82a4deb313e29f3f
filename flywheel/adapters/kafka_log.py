"""The event log on Kafka: idempotent, acknowledged by all in-sync replicas, refusing early while the broker is away."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Sequence
from functools import partial

from confluent_kafka import KafkaError, KafkaException, Producer

from flywheel.adapters.kafka_breaker import Breaker
from flywheel.adapters.logs import logger
from flywheel.contracts.metadata import TRACEPARENT
from flywheel.kernel.ports import Unavailable

_POLL_BUSY_S = 0.001
_POLL_IDLE_S = 0.1
_PROBE_EVERY_S = 0.5
_PROBE_TIMEOUT_S = 1.0

_log = logger(__name__)


def producer_config(bootstrap: str, delivery_timeout_s: float, *, linger_ms: float = 2) -> dict[str, str | int | float]:
    """What every producer of the platform has in common: nothing lost, nothing doubled, no call without an end."""
    delivery_ms = int(delivery_timeout_s * 1000)
    return {
        "bootstrap.servers": bootstrap,
        "enable.idempotence": True,
        "acks": "all",
        "compression.type": "lz4",
        "partitioner": "murmur2_random",
        "linger.ms": linger_ms,
        "batch.num.messages": 10_000,
        "message.timeout.ms": delivery_ms,
        "request.timeout.ms": delivery_ms,
        "socket.timeout.ms": max(delivery_ms, 1_000),
        "socket.connection.setup.timeout.ms": 2_000,
        "reconnect.backoff.ms": 50,
        "reconnect.backoff.max.ms": 500,
        "queue.buffering.max.kbytes": 262_144,
        "log_level": 0,
    }


_Headers = dict[str, bytes] | None

_RECORD_FAULTS = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_RECORD, KafkaError._INVALID_ARG})


def _meaning(error: KafkaError) -> Exception:
    """ValueError when the record itself is at fault, Unavailable when the broker is."""
    return ValueError(error.str()) if error.code() in _RECORD_FAULTS else Unavailable(error.str())


def _headers(trace: str) -> _Headers:
    return {TRACEPARENT: trace.encode()} if trace else None


class _Delivery:
    """The reports of one append: counts them down and then resolves one future."""

    __slots__ = ("_results", "_waiting", "done")

    def __init__(self, size: int, done: asyncio.Future[list[Exception | None]]) -> None:
        self._results: list[Exception | None] = [None] * size
        self._waiting = size
        self.done = done

    def settle(self, index: int, error: Exception | None) -> None:
        self._results[index] = error
        self._waiting -= 1
        if not self._waiting and not self.done.done():
            self.done.set_result(self._results)


class KafkaEventLog:
    """Appends to Kafka from one event loop.

    Delivery reports are polled on that same loop instead of a thread: each report needs the interpreter, and a
    second thread would have to win it back from the loop for every single one. A record is refused at once when
    `max_in_flight` records wait for the broker or when the broker has stopped acknowledging; one whose
    acknowledgement does not come within `delivery_timeout_s` is reported Unavailable and may or may not be there.
    """

    def __init__(
        self,
        bootstrap: str,
        *,
        delivery_timeout_s: float = 5.0,
        stalled_after_s: float = 1.5,
        max_in_flight: int = 50_000,
        on_in_flight: Callable[[int], None] | None = None,
    ) -> None:
        self._config = producer_config(bootstrap, delivery_timeout_s)
        self._delivery_timeout_s = delivery_timeout_s
        self._max_in_flight = max_in_flight
        self._on_in_flight = on_in_flight
        self._in_flight = 0
        self._breaker = Breaker(stalled_after_s)
        self._producer = self._connect()
        self._poller: asyncio.Task[None] | None = None
        self._prober: asyncio.Task[None] | None = None
        self._woken = asyncio.Event()
        self._closing = False
        self._fatal: str | None = None
        # What the background tasks log belongs to the process, not to the request that happened to start them.
        self._context = contextvars.copy_context()

    async def append(
        self, topic: str, records: Sequence[tuple[bytes, bytes]], *, trace: str = ""
    ) -> list[Exception | None]:
        """One entry per record, in order: None once all in-sync replicas have it, else Unavailable.

        ValueError for a record that no broker would take (too large).
        """
        if not records:
            return []
        refusal = self._refusal(len(records))
        if refusal:
            return [refusal] * len(records)
        loop = asyncio.get_running_loop()
        delivery = _Delivery(len(records), loop.create_future())
        self._start(loop)
        self._enqueue(topic, records, _headers(trace), delivery, loop.time())
        self._woken.set()
        # Records already handed over stay under way when the caller gives up, so only the wait is cancelled.
        return await delivery.done

    async def ready(self) -> bool:
        """Whether the broker answers and acknowledges."""
        self._start(asyncio.get_running_loop())
        return await self._probe() and not self._breaker.is_open

    async def close(self) -> None:
        """Waits up to the delivery timeout for what is under way, then lets go."""
        self._closing = True
        loop = asyncio.get_running_loop()
        until = loop.time() + self._delivery_timeout_s
        while self._in_flight and loop.time() < until:
            self._producer.poll(0)
            await asyncio.sleep(_POLL_BUSY_S)
        tasks = [task for task in (self._poller, self._prober) if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._producer.purge()
        self._producer.flush(1.0)

    def _connect(self) -> Producer:
        return Producer({**self._config, "error_cb": self._on_error})

    def _refusal(self, count: int) -> Unavailable | None:
        if self._closing:
            return Unavailable("the event log is closing")
        if self._breaker.is_open:
            return Unavailable("the broker does not acknowledge")
        if self._in_flight and self._in_flight + count > self._max_in_flight:
            return Unavailable(f"{self._in_flight} records wait for the broker already")
        return None

    def _enqueue(
        self, topic: str, records: Sequence[tuple[bytes, bytes]], headers: _Headers, delivery: _Delivery, now: float
    ) -> None:
        if not self._in_flight:
            self._breaker.progressed(now)
        self._in_flight += len(records)
        refused: Exception | None = None
        for index, (key, value) in enumerate(records):
            # After one that may come again the rest is refused too: a later record must not overtake an earlier one.
            error = refused or self._produce(topic, key, value, headers, partial(self._delivered, delivery, index))
            if error:
                self._settle(delivery, index, error)
                refused = error if isinstance(error, Unavailable) else None

    def _produce(
        self, topic: str, key: bytes, value: bytes, headers: _Headers, report: Callable[..., None]
    ) -> Exception | None:
        try:
            self._producer.produce(topic, value, key, on_delivery=report, headers=headers)
        except BufferError as error:
            return Unavailable(str(error))
        except KafkaException as error:
            return _meaning(error.args[0])
        return None

    def _delivered(self, delivery: _Delivery, index: int, error: KafkaError | None, _: object) -> None:
        self._settle(delivery, index, error and _meaning(error))

    def _settle(self, delivery: _Delivery, index: int, error: Exception | None) -> None:
        self._in_flight -= 1
        if error is None:
            self._breaker.acknowledged()
        elif isinstance(error, Unavailable):
            self._breaker.failed(str(error))
        delivery.settle(index, error)

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal() or error.code() == KafkaError._ALL_BROKERS_DOWN:
            self._breaker.failed(error.str())
        if error.fatal():
            self._fatal = error.str()

    def _replace(self) -> None:
        # librdkafka refuses everything after a fatal error (a lost producer identity); a new producer goes on.
        _log.error("kafka_producer_replaced", reason=self._fatal)
        self._fatal = None
        old, self._producer = self._producer, self._connect()
        old.purge()
        old.flush(1.0)

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._poller is None:
            self._poller = loop.create_task(self._poll(), context=self._context)
            self._prober = loop.create_task(self._recover(), context=self._context)

    async def _poll(self) -> None:
        while True:
            try:
                self._sweep(asyncio.get_running_loop().time())
            except Exception:
                # Without the sweep every append would wait for ever.
                _log.exception("kafka_sweep_failed")
            if self._in_flight:
                await asyncio.sleep(_POLL_BUSY_S)
            else:
                self._woken.clear()
                await self._wait_for_work()

    def _sweep(self, now: float) -> None:
        if self._producer.poll(0):
            self._breaker.progressed(now)
        elif self._in_flight:
            self._breaker.waited(now)
        if self._fatal:
            self._replace()
        if self._on_in_flight:
            self._on_in_flight(self._in_flight)

    async def _wait_for_work(self) -> None:
        try:
            async with asyncio.timeout(_POLL_IDLE_S):
                await self._woken.wait()
        except TimeoutError:
            return

    async def _recover(self) -> None:
        while True:
            await asyncio.sleep(_PROBE_EVERY_S)
            if self._breaker.is_open and await self._probe():
                self._breaker.progressed(asyncio.get_running_loop().time())
                self._breaker.probed()

    async def _probe(self) -> bool:
        try:
            await asyncio.to_thread(self._producer.list_topics, timeout=_PROBE_TIMEOUT_S)
        except KafkaException:
            return False
        return True
