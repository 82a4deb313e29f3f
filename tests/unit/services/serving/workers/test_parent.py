"""What the process that accepts keeps of its workers, and what these make of connections that do not arrive."""

from __future__ import annotations

from unittest.mock import Mock

import pytest

from flywheel.adapters.worker_channel import ConnectionCounts, Word
from flywheel.adapters.worker_pool import Gone, Worker
from services.serving.settings import ServingSettings
from services.serving.workers import parent as workers
from services.serving.workers.parent import Workers
from services.serving.workers.worker import _hear


async def test_a_worker_that_ends_while_it_is_asked_is_not_counted_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    serving = Workers(ServingSettings(serving_workers=2))
    ending, staying = (Worker(slot, Mock(), Mock(), started_s=0.0, metrics_port=1) for slot in range(2))
    serving._pool.workers += [ending, staying]

    def ask(worker: Worker, _: str) -> bytes:
        if worker is ending:
            serving._pool.workers.remove(worker)
            serving._ended(worker)
        return b"# nothing\n"

    monkeypatch.setattr(workers, "_ask", ask)
    assert serving._expositions() == {"1": "# nothing\n"}
    assert list(serving._last) == [staying]


async def test_workers_that_were_lost_are_told_by_readiness_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    serving = Workers(ServingSettings(serving_workers=2))
    ready = b'{"status": "ready", "detail": "model v1"}'
    monkeypatch.setattr(workers, "_ask", lambda _, page: ready if page == "readyz" else b"")
    living, *gone = (Worker(slot, Mock(), Mock(), started_s=0.0, metrics_port=1) for slot in range(6))
    living.ready.set()
    serving._pool.workers.append(living)
    assert serving.ready() == (True, "1 of 2 workers: model v1")
    gone[1].killed_for = gone[2].killed_for = Gone.HUNG
    gone[3].is_leaving = True
    gone[4].killed_for = Gone.NOT_ENDED
    before = died(serving, Gone.HUNG)
    for worker in gone:
        serving._ended(worker)
    told = "1 of 2 workers (since the start 1 died, 2 hung, 1 did not end in time): model v1"
    assert serving.ready() == (True, told)
    assert died(serving, Gone.HUNG) == before + 2


def died(serving: Workers, reason: Gone) -> float:
    """What is told at the port for metrics."""
    samples = (sample for metric in serving._metrics.collect() for sample in metric.samples)
    name = "flywheel_serving_workers_died_total"
    return next(each.value for each in samples if each.name == name and each.labels["reason"] == reason)


def test_a_connection_that_the_system_dropped_on_its_way_counts_as_ended() -> None:
    server, channel = Mock(), Mock()
    _hear(server, ConnectionCounts(channel), Word.CONNECTION, b"", None)
    channel.send.assert_called_once_with(Word.COUNTS, (1).to_bytes(8, "big") * 2)
    assert not server.adopt.called
