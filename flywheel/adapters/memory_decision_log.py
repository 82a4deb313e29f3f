"""The in-memory twin of the decision log, for tests without a broker."""

from __future__ import annotations

from collections.abc import Callable, Sequence


class MemoryDecisionLog:
    """Keeps records in a list. While `away` is set they wait, up to `capacity`."""

    def __init__(
        self,
        *,
        on_acknowledged: Callable[[], None],
        on_lost: Callable[[str], None],
        capacity: int = 50_000,
    ) -> None:
        self._on_acknowledged = on_acknowledged
        self._on_lost = on_lost
        self._capacity = capacity
        self._waiting: list[tuple[bytes, bytes]] = []
        self._sent: list[tuple[tuple[bytes, bytes], Callable[[str | None], None]]] = []
        self.records: list[tuple[bytes, bytes]] = []
        self.away = False

    @property
    def in_flight(self) -> int:
        return len(self._waiting)

    @property
    def sending(self) -> int:
        """Sent records that wait."""
        return len(self._sent)

    def start(self) -> None:
        """Nothing to do."""

    def append_many(self, records: Sequence[tuple[bytes, bytes]]) -> None:
        """Hands the records over; there is nothing to wait for."""
        for key, value in records:
            self._append(key, value)

    def send(self, records: Sequence[tuple[bytes, bytes]], ended: Callable[[str | None], None]) -> int:
        """How many of the records were taken, from the first on; `ended` is told for each what became of it."""
        taken = records[: max(0, self._capacity - self.sending)]
        self._sent.extend((record, ended) for record in taken)
        self._deliver()
        return len(taken)

    def fail(self) -> None:
        """What was sent and waits comes back undelivered."""
        sent, self._sent = self._sent, []
        for _, ended in sent:
            ended("undelivered")

    def _append(self, key: bytes, value: bytes) -> None:
        if len(self._waiting) >= self._capacity:
            self._on_lost("queue_full")
            return
        self._waiting.append((key, value))
        self._deliver()

    async def close(self, timeout_s: float) -> None:  # noqa: ARG002  the port's; memory answers at once
        """What still waits is lost, and counted so."""
        self._deliver()
        for _ in self._waiting:
            self._on_lost("shutdown")
        self._waiting.clear()

    def _deliver(self) -> None:
        while self._waiting and not self.away:
            self.records.append(self._waiting.pop(0))
            self._on_acknowledged()
        while self._sent and not self.away:
            record, ended = self._sent.pop(0)
            self.records.append(record)
            ended(None)
