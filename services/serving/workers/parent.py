"""Serving by several processes: this one accepts, they answer; their metrics and readiness are told as one."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPException

import orjson
from prometheus_client import CollectorRegistry

from flywheel.adapters.logs import logger
from flywheel.adapters.merged_metrics import MergedMetrics
from flywheel.adapters.worker_pool import Gone, Worker, WorkerPool, WorkersFailed
from flywheel.contracts.metrics import SERVING_WORKERS_DIED
from services.serving.port.port import CannotServe, check_certificates, listening
from services.serving.server import metrics_server
from services.serving.settings import ServingSettings

_START_TIMEOUT_S = 60.0
_ASK_TIMEOUT_S = 1.0
_SNAPSHOT_EVERY_S = 10.0
_HOW = {Gone.DIED: "died", Gone.HUNG: "hung", Gone.NOT_ENDED: "did not end in time"}
_log = logger(__name__)


class Workers:
    """The workers of one port. `run` until told to stop."""

    def __init__(self, settings: ServingSettings) -> None:
        self._settings = settings
        self._pool = WorkerPool(
            [sys.executable, "-m", "services.serving.workers.worker"],
            settings.serving_workers,
            start_timeout_s=_START_TIMEOUT_S,
            stop_timeout_s=settings.stop_within_s,
            silence_s=settings.serving_worker_silence_s,
            on_ended=self._ended,
        )
        self._metrics = MergedMetrics(self._expositions, own=[SERVING_WORKERS_DIED])
        for reason in Gone:
            SERVING_WORKERS_DIED.labels(reason)
        self._lost: Counter[Gone] = Counter()
        self._last: dict[Worker, str] = {}

    async def run(self, told: asyncio.Event) -> None:
        """Serves until told to stop; SIGHUP replaces the workers one by one. Raises CannotServe."""
        check_certificates(self._settings)
        taken = await listening(self._settings)
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self._metrics)
        exposing = metrics_server(self._settings, self.ready, registry)
        rolling: set[asyncio.Task[bool]] = set()

        def roll() -> None:
            task = asyncio.create_task(self._pool.roll())
            rolling.add(task)
            task.add_done_callback(rolling.discard)

        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, roll)
        exposing.start()
        snapshots = asyncio.create_task(self._snapshot())
        try:
            await self._serve(taken, told)
        finally:
            snapshots.cancel()
            for task in rolling:
                task.cancel()
            exposing.close()

    def ready(self) -> tuple[bool, str]:
        """Whether any worker answers, and what each says."""
        said = {worker.slot: _ask(worker, "readyz") for worker in list(self._pool.workers) if worker.takes_connections}
        details = [orjson.loads(answer) for answer in said.values() if answer]
        able = [detail["detail"] for detail in details if detail["status"] == "ready"]
        workers = f"{len(able)} of {self._settings.serving_workers} workers{self._lost_ones()}"
        return bool(able), f"{workers}: {', '.join(sorted(set(able)))}"

    def _lost_ones(self) -> str:
        """How many went since the start that should not have, or not so, and how."""
        lost = ", ".join(f"{number} {_HOW[why]}" for why, number in self._lost.items())
        return f" (since the start {lost})" if lost else ""

    async def _serve(self, taken: socket.socket, told: asyncio.Event) -> None:
        try:
            await self._pool.start(taken)
        except WorkersFailed as error:
            raise CannotServe(str(error)) from error
        _log.info("serving", address=self._settings.serving_address, workers=self._settings.serving_workers)
        await told.wait()
        await self._pool.stop()
        _log.info("stopped")

    def _expositions(self) -> dict[str, str]:
        """What each worker counted, as it says now or, if it cannot, said last."""
        workers = [worker for worker in list(self._pool.workers) if worker.metrics_port]
        with ThreadPoolExecutor(max(len(workers), 1)) as threads:
            answers = list(threads.map(lambda worker: _ask(worker, "metrics"), workers))
        for worker, answer in zip(workers, answers, strict=True):
            if answer:
                self._last[worker] = answer.decode()
        living = set(self._pool.workers)
        for worker in workers:
            if worker not in living:
                # It ended while it was asked: what it counted is kept with those that ended.
                self._last.pop(worker, None)
        return {self._name(worker): said for worker in workers if (said := self._last.get(worker))}

    def _name(self, worker: Worker) -> str:
        return f"{worker.slot}-leaving" if worker.is_leaving else str(worker.slot)

    def _ended(self, worker: Worker) -> None:
        if (why := worker.gone_for) is not None:
            self._lost[why] += 1
            SERVING_WORKERS_DIED.labels(why).inc()
        said = self._last.pop(worker, "")
        self._metrics.retire(worker.last_metrics.decode() or said)

    async def _snapshot(self) -> None:
        """Bounds what a worker that is killed has counted and never told."""
        while True:
            await asyncio.sleep(_SNAPSHOT_EVERY_S)
            await asyncio.to_thread(self._expositions)


def _ask(worker: Worker, page: str) -> bytes:
    """What the worker's own port for metrics says; empty when it says nothing."""
    connection = HTTPConnection("127.0.0.1", worker.metrics_port, timeout=_ASK_TIMEOUT_S)
    try:
        connection.request("GET", f"/{page}")
        return connection.getresponse().read()
    except (OSError, HTTPException):
        return b""
    finally:
        connection.close()
