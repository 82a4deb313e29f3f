"""Payments at a given rate straight into the broker, on a schedule that does not wait for anybody."""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from confluent_kafka import Producer

from flywheel.contracts.events import Envelope, Event
from flywheel.contracts.topics import event_topic
from usecases.fraud.events import Chargeback, Transaction

CARDS, TERMINALS = 5_000, 2_000
_CHARGEBACK_SHARE = 0.02


class Sender:
    """Puts events into the broker as ingest does, and knows when each was acknowledged."""

    def __init__(self, bootstrap: str) -> None:
        self._producer = Producer(
            {"bootstrap.servers": bootstrap, "acks": "all", "enable.idempotence": True, "linger.ms": 1}
        )

    def send(self, event: Event, acknowledged: Callable[[], None] | None = None) -> None:
        """Hands the event over; `acknowledged` is called from `serve`."""
        value = Envelope.seal(event, ingest_time=datetime.now(UTC), request_id="benchmark").to_bytes()
        key = str(getattr(event, event.partition_key)).encode()
        told: Any = None
        if acknowledged is not None:
            heard = acknowledged

            def told(error: object, _: object) -> None:
                if error is None:
                    heard()

        self._producer.produce(event_topic("fraud", event.event_name).name, value, key, on_delivery=told)

    def serve(self, timeout_s: float = 0.0) -> None:
        """Hears of acknowledgements."""
        self._producer.poll(timeout_s)

    def flush(self) -> None:
        """Waits until everything is acknowledged. Raises RuntimeError after half a minute."""
        if self._producer.flush(30):
            raise RuntimeError("the broker does not acknowledge what was sent")


class Load:
    """Random payments and some chargebacks at `rate` a second from a thread of its own, while the context lasts.

    `behind_s` says how far it fell behind its schedule at most; `hot` is a card that makes half of all payments,
    `hot_payments` in number, chargebacks left out.
    """

    def __init__(self, bootstrap: str, rate: float, *, cards: int = CARDS, hot: str | None = None) -> None:
        self._sender = Sender(bootstrap)
        self._rate = rate
        self._cards = cards
        self._hot = hot
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)
        self._rng = random.Random(7)
        self._name = uuid.uuid4().hex
        self.sent = 0
        self.hot_payments = 0
        self.behind_s = 0.0

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()
        self._sender.flush()

    def _run(self) -> None:
        began_s = time.monotonic()
        while not self._stopping.is_set():
            due = int((time.monotonic() - began_s) * self._rate)
            self.behind_s = max(self.behind_s, (due - self.sent) / self._rate - 0.01)
            while self.sent < due:
                self._sender.send(self._event())
                self.sent += 1
            self._sender.serve()
            time.sleep(0.005)

    def _event(self) -> Event:
        rng = self._rng
        card = f"card-{rng.randrange(self._cards)}"
        if self._hot is not None and rng.random() < 0.5:
            card = self._hot
        fields: dict[str, Any] = {
            "event_id": f"{self._name}-{self.sent}",
            "event_time": datetime.now(UTC),
            "card_id": card,
            "terminal_id": f"terminal-{rng.randrange(TERMINALS)}",
            "amount_cents": rng.randrange(100, 50_000),
        }
        if rng.random() < _CHARGEBACK_SHARE:
            return Chargeback(transaction_id=f"tx-{self.sent}", **fields)
        self.hot_payments += card == self._hot
        return Transaction(**fields)
