"""Decisions on their way to Kafka: handing one over never waits, and each ends as acknowledged or as lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from flywheel.adapters.kafka_log import producer_config
from flywheel.adapters.logs import logger

_POLL_BUSY_S = 0.01
_POLL_IDLE_S = 0.1
_POLL_FAILED_S = 1.0
_DELIVERY_TIMEOUT_S = 120.0
_REQUEST_TIMEOUT_MS = 5_000
# What a spool sends can wait on disk instead: it leaves room for records that have no other place.
_SENT_SHARE = 0.5
_NEVER_TAKEN = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_RECORD, KafkaError.INVALID_MSG})

_log = logger(__name__)


class KafkaDecisionLog:
    """A bounded queue in front of an idempotent producer, for one event loop.

    While the broker is away up to `capacity` records wait up to two minutes for it. `on_acknowledged` gets how many
    were; `on_lost` why one was not: `queue_full`, `undelivered`, `refused` or `shutdown`.
    """

    def __init__(
        self,
        bootstrap: str,
        topic: str,
        *,
        on_acknowledged: Callable[[], None],
        on_lost: Callable[[str], None],
        capacity: int = 50_000,
    ) -> None:
        self._config: dict[str, object] = {
            **producer_config(bootstrap, _DELIVERY_TIMEOUT_S, linger_ms=20),
            "request.timeout.ms": _REQUEST_TIMEOUT_MS,
            "socket.timeout.ms": _REQUEST_TIMEOUT_MS,
            "queue.buffering.max.messages": capacity,
        }
        self._topic = topic
        self._on_acknowledged = on_acknowledged
        self._on_lost = on_lost
        self._capacity = capacity
        self._fatal: str | None = None
        self._not_taken = ""
        self._failure = "undelivered"
        self._poller: asyncio.Task[None] | None = None
        self.in_flight = 0
        self.sending = 0
        self._producer = self._connect()
        self._replaced: list[Producer] = []

    def start(self) -> None:
        """Takes delivery reports from now on."""
        self._poller = asyncio.get_running_loop().create_task(self._poll())

    def append_many(self, records: Sequence[tuple[bytes, bytes]]) -> None:
        """Hands the records over; there is nothing to wait for."""
        for key, value in records:
            self._append(key, value)

    def send(self, records: Sequence[tuple[bytes, bytes]], ended: Callable[[str | None], None]) -> int:
        """How many of the records were taken, from the first on; the caller keeps them, and their account.

        `ended` is told for each that was taken, in whatever order: None for acknowledged, `undelivered` for one to be
        sent again, `refused` for one that the broker will never take. Nothing is taken from a producer's fatal error
        until another has replaced it.
        """

        def delivered(error: KafkaError | None, _: Message) -> None:
            self.sending -= 1
            ended(None if error is None else "refused" if error.code() in _NEVER_TAKEN else "undelivered")

        for number, (key, value) in enumerate(records):
            if self.sending >= self._capacity * _SENT_SHARE:
                return number
            try:
                self._producer.produce(self._topic, value, key, on_delivery=delivered)
            except BufferError:
                return number
            except KafkaException as error:
                if error.args[0].code() not in _NEVER_TAKEN:
                    self._say_not_taken(str(error))
                    return number
                _log.error("decision_refused", reason=str(error))
                ended("refused")
            else:
                self.sending += 1
                self._not_taken = ""
        return len(records)

    def _say_not_taken(self, reason: str) -> None:
        # The caller comes again many times a second.
        if reason != self._not_taken:
            self._not_taken = reason
            _log.warning("decisions_not_taken", reason=reason)

    def _append(self, key: bytes, value: bytes) -> None:
        if self.in_flight >= self._capacity:
            self._on_lost("queue_full")
            return
        try:
            self._producer.produce(self._topic, value, key, on_delivery=self._delivered)
        except BufferError:
            self._on_lost("queue_full")
        except KafkaException as error:
            _log.error("decision_refused", reason=str(error))
            self._on_lost("refused")
        else:
            self.in_flight += 1

    async def close(self, timeout_s: float) -> None:
        """Waits up to `timeout_s` for what is under way; the rest is lost, and counted so."""
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout_s
        while (self.in_flight or self.sending) and loop.time() < until:
            self._report()
            await asyncio.sleep(_POLL_BUSY_S)
        if self._poller:
            self._poller.cancel()
            await asyncio.gather(self._poller, return_exceptions=True)
        self._failure = "shutdown"
        for producer in (*self._replaced, self._producer):
            producer.purge()
            producer.flush(1.0)

    def _connect(self) -> Producer:
        return Producer({**self._config, "error_cb": self._on_error})

    def _delivered(self, error: KafkaError | None, _: Message) -> None:
        self.in_flight -= 1
        if error is None:
            self._on_acknowledged()
        else:
            self._on_lost(self._failure)

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal():
            self._fatal = error.str()

    async def _poll(self) -> None:
        while True:
            try:
                self._report()
                if self._fatal:
                    self._replace(self._fatal)
            except Exception:
                # Without reports the queue would fill up and every later decision be lost.
                _log.exception("decision_reports_failed")
                await asyncio.sleep(_POLL_FAILED_S)
            await asyncio.sleep(_POLL_BUSY_S if self.in_flight or self.sending else _POLL_IDLE_S)

    def _report(self) -> None:
        self._producer.poll(0)
        for producer in self._replaced:
            producer.poll(0)
        self._replaced = [producer for producer in self._replaced if len(producer)]

    def _replace(self, reason: str) -> None:
        # librdkafka refuses everything after a fatal error (a lost producer identity); a new producer goes on.
        old, self._producer = self._producer, self._connect()
        self._fatal = None
        _log.error("decision_producer_replaced", reason=reason)
        # Its records are reported one by one after the purge; until the last one was it is polled too.
        self._replaced.append(old)
        old.purge()
