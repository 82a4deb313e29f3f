"""Workers behind one port: this process accepts, they serve. Each connection goes to the one that has the fewest.

One that dies is replaced, and so is one that lives and does nothing: whoever serves says so again and again.
"""

from __future__ import annotations

import asyncio
import math
import signal
import socket
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum

from flywheel.adapters.listener import Listener
from flywheel.adapters.logs import logger
from flywheel.adapters.worker_channel import Word, WorkerChannel

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0
_SETTLED_S = 5.0
_RETRY_S = 0.1
_LOOKS = 10
"""So often, while a silence lasts that is too long, it is looked for."""
_LONGER_FOR_THE_LAST = 3
"""So many times as long one may be silent while no other serves."""
_log = logger(__name__)


class WorkersFailed(Exception):
    """No worker could be started."""


class Gone(StrEnum):
    """Why a worker went that nobody had asked to."""

    DIED = "died"
    HUNG = "hung"
    """It lived and was not heard any more, or never began to serve."""
    NOT_ENDED = "not_ended"
    """It was told to end, and did not in time."""


@dataclass(eq=False)
class Worker:
    """A process as the pool sees it."""

    slot: int
    process: asyncio.subprocess.Process
    channel: WorkerChannel
    started_s: float
    metrics_port: int = 0
    taken: int = 0
    """Connections that it confirmed, of which `ended` have gone."""
    ended: int = 0
    untaken: deque[socket.socket] = field(default_factory=deque)
    """Handed over and not confirmed; kept open here, too, lest they end with the worker."""
    is_leaving: bool = False
    heard_s: float = 0.0
    """When it last said anything, steady clock."""
    killed_for: Gone | None = None
    last_metrics: bytearray = field(default_factory=bytearray)
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def connections(self) -> int:
        """How many it has."""
        return self.taken + len(self.untaken) - self.ended

    @property
    def takes_connections(self) -> bool:
        """Whether new ones may be handed to it."""
        return self.ready.is_set() and not self.is_leaving

    @property
    def gone_for(self) -> Gone | None:
        """Of one that has gone, why; None where it ended as it was told to."""
        return self.killed_for or (None if self.is_leaving else Gone.DIED)

    def hear_counts(self, taken: int, ended: int) -> None:
        """What it says of its connections since it began."""
        while self.untaken and self.taken < taken:
            self.untaken.popleft().close()
            self.taken += 1
        self.ended = ended


class WorkerPool:
    """`count` workers on a socket that listens. A worker is the command with the number of its channel behind it.

    One that serves and is not heard for `silence_s` is killed and replaced, as is one that does not begin to serve
    within `start_timeout_s`: one at a time, and while no other serves only after three times as long. `on_ended` hears
    of each worker that has gone.
    """

    def __init__(
        self,
        command: Sequence[str],
        count: int,
        *,
        start_timeout_s: float,
        stop_timeout_s: float,
        silence_s: float,
        on_ended: Callable[[Worker], None] = lambda _: None,
    ) -> None:
        self.workers: list[Worker] = []
        """All that live, those that are leaving included."""
        self._command = list(command)
        self._count = count
        self._start_timeout_s = start_timeout_s
        self._stop_timeout_s = stop_timeout_s
        self._silence_s = silence_s
        self._on_ended = on_ended
        self._listener: Listener | None = None
        self._waiting: list[socket.socket] = []
        self._retry: asyncio.TimerHandle | None = None
        self._stopping = asyncio.Event()
        self._has_served = False
        self._failures = [0] * count
        self._coming = [0] * count
        self._rolling = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listening: asyncio.Task[None] | None = None

    async def start(self, listening: socket.socket) -> None:
        """Returns when the first worker serves. Raises WorkersFailed when one ends before that."""
        self._listener = Listener(listening, self._hand_over)
        self._listening = asyncio.create_task(self._listen())
        started = [await self._spawn(slot) for slot in range(self._count)]
        ups = [asyncio.create_task(self._comes_up(worker)) for worker in started]
        await asyncio.wait(ups, return_when=asyncio.FIRST_COMPLETED)
        for up in ups:
            up.cancel()
        if not self._has_served:
            await self.stop()
            raise WorkersFailed("no worker came up; each says why on standard error")

    async def roll(self) -> bool:
        """Replaces each worker by a new one that serves before the old one goes. False when a new one does not come up;
        the old ones that are left then stay."""
        async with self._rolling:
            for slot in range(self._count):
                old = [worker for worker in self.workers if worker.slot == slot and not worker.is_leaving]
                if self._stopping.is_set():
                    return False
                fresh = await self._spawn(slot)
                if not await self._comes_up(fresh):
                    _log.error("worker_not_replaced", slot=slot)
                    await self._end(fresh)
                    return False
                await asyncio.gather(*(self._end(worker) for worker in old))
        return True

    async def stop(self) -> None:
        """Accepts nothing more and ends all workers, which finish what they have."""
        self._stopping.set()
        if self._listening:
            self._listening.cancel()
        if self._listener:
            self._listener.close()
        await asyncio.gather(*(self._end(worker) for worker in list(self.workers)))
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._retry:
            self._retry.cancel()
        if self._waiting:
            _log.warning("connections_not_served", connections=len(self._waiting))
        for connected in self._waiting:
            connected.close()

    async def _comes_up(self, worker: Worker) -> bool:
        waits = [asyncio.create_task(event.wait()) for event in (worker.ready, worker.gone)]
        await asyncio.wait(waits, timeout=self._start_timeout_s, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        return worker.ready.is_set()

    async def _spawn(self, slot: int) -> Worker:
        channel, far = WorkerChannel.pair()
        self._coming[slot] += 1
        try:
            with far:
                process = await asyncio.create_subprocess_exec(
                    *self._command, str(far.fileno()), pass_fds=[far.fileno()], start_new_session=True
                )
        finally:
            self._coming[slot] -= 1
        worker = Worker(slot, process, channel, time.monotonic())
        self.workers.append(worker)
        channel.watch(lambda word, payload, _: self._hear(worker, word, payload), worker.ready.clear)
        self._later(self._watch(worker))
        return worker

    async def _watch(self, worker: Worker) -> None:
        code = await worker.process.wait()
        was_ready = worker.metrics_port > 0
        worker.ready.clear()
        worker.channel.close()
        self.workers.remove(worker)
        # Nobody has read from them yet, so another worker can serve them as if nothing had happened.
        for connected in worker.untaken:
            self._hand_over(connected)
        self._on_ended(worker)
        worker.gone.set()
        if self._listener and not any(other.takes_connections for other in self.workers):
            self._listener.pause()
        if worker.gone_for is Gone.DIED:
            _log.error(
                "worker_died", slot=worker.slot, pid=worker.process.pid, code=code, connections=worker.connections
            )
        if self._is_vacant(worker.slot):
            await self._refill(worker, was_ready=was_ready)

    def _is_vacant(self, slot: int) -> bool:
        """Whether nobody is there who serves or will: one that is being replaced has its successor beside it."""
        if self._stopping.is_set() or not self._has_served or self._coming[slot]:
            return False
        return not any(worker.slot == slot and not worker.is_leaving for worker in self.workers)

    async def _refill(self, gone: Worker, *, was_ready: bool) -> None:
        slot, lived_s = gone.slot, time.monotonic() - gone.started_s
        self._failures[slot] = 0 if was_ready and lived_s > _SETTLED_S else self._failures[slot] + 1
        if self._failures[slot]:
            pause_s = min(_FIRST_PAUSE_S * 2 ** (self._failures[slot] - 1), _LONGEST_PAUSE_S)
            await _within(self._stopping.wait(), pause_s)
        # Somebody else may have taken the place meanwhile.
        if self._is_vacant(slot):
            await self._spawn(slot)

    async def _end(self, worker: Worker) -> None:
        worker.is_leaving = True
        if worker.gone.is_set():
            return
        # It may have ended this moment.
        with suppress(ProcessLookupError):
            worker.process.send_signal(signal.SIGTERM)
        if not await _within(worker.gone.wait(), self._stop_timeout_s):
            _log.error("worker_killed", slot=worker.slot, pid=worker.process.pid, connections=worker.connections)
            self._kill(worker, Gone.NOT_ENDED)
            await worker.gone.wait()

    async def _listen(self) -> None:
        """Has those that live and do nothing killed; they are replaced like those that die."""
        every_s = self._silence_s / _LOOKS
        looked_s = time.monotonic()
        while True:
            await asyncio.sleep(every_s)
            now_s, before_s = time.monotonic(), looked_s
            looked_s = now_s
            if now_s - before_s > self._silence_s / 2:
                # It was this process that did not listen.
                for worker in self.workers:
                    worker.heard_s = now_s
            self._kill_the_most_silent(now_s)

    def _kill_the_most_silent(self, now_s: float) -> None:
        """One at most, and while no other serves only one that has been silent for several times as long.

        What silences all at once, a line-up that all load or memory that was swapped out, passes; workers that start
        cold under the whole load make it worse.
        """
        patiences = {
            worker: self._silent_s(worker, now_s) / self._patience_s(worker)
            for worker in self.workers
            if not worker.is_leaving and worker.killed_for is None
        }
        if not patiences:
            return
        worst = max(patiences, key=lambda worker: patiences[worker])
        others_serve = any(worker.takes_connections and used <= 1 for worker, used in patiences.items())
        if patiences[worst] > (1 if others_serve else _LONGER_FOR_THE_LAST):
            told = {"slot": worst.slot, "pid": worst.process.pid, "connections": worst.connections}
            _log.error("worker_hangs", silent_s=round(self._silent_s(worst, now_s), 1), **told)
            self._kill(worst, Gone.HUNG)

    def _silent_s(self, worker: Worker, now_s: float) -> float:
        return now_s - (worker.heard_s if worker.metrics_port else worker.started_s)

    def _patience_s(self, worker: Worker) -> float:
        return self._silence_s if worker.metrics_port else self._start_timeout_s

    def _kill(self, worker: Worker, why: Gone) -> None:
        # Nothing more is handed to it meanwhile.
        worker.ready.clear()
        # It may have ended by itself this moment, and was not killed then.
        with suppress(ProcessLookupError):
            worker.process.kill()
            worker.killed_for = why

    def _hear(self, worker: Worker, word: Word, payload: bytes) -> None:
        worker.heard_s = time.monotonic()
        if word is Word.READY:
            worker.metrics_port = int.from_bytes(payload, "big")
            worker.ready.set()
            self._has_served = True
            _log.info("worker_ready", slot=worker.slot, pid=worker.process.pid)
            self._balance(worker)
            self._hand_over_waiting()
        elif word is Word.COUNTS:
            worker.hear_counts(int.from_bytes(payload[:8], "big"), int.from_bytes(payload[8:], "big"))
        elif word is Word.LAST_METRICS:
            worker.last_metrics += payload

    def _balance(self, fresh: Worker) -> None:
        """Has those with more than their share ask the surplus to come again; it then goes to the new worker."""
        if any(worker.is_leaving or not worker.ready.is_set() for worker in self.workers) or self._rolling.locked():
            # Connections are about to move anyway.
            return
        share = math.ceil(sum(worker.connections for worker in self.workers) / len(self.workers))
        for worker in self.workers:
            if worker is not fresh and worker.connections > share:
                worker.channel.send(Word.SHED, (worker.connections - share).to_bytes(4, "big"))

    def _hand_over(self, connected: socket.socket) -> None:
        able = [worker for worker in self.workers if worker.takes_connections]
        for worker in sorted(able, key=lambda worker: worker.connections):
            if worker.channel.send(Word.CONNECTION, connected=connected):
                worker.untaken.append(connected)
                return
        # They all died a moment ago, and the next one takes it; or none of them reads, and it is tried again.
        self._waiting.append(connected)
        if self._listener:
            self._listener.pause()
        if able and self._retry is None:
            _log.warning("no_worker_takes_connections", workers=len(able))
            self._retry = asyncio.get_running_loop().call_later(_RETRY_S, self._hand_over_waiting)

    def _hand_over_waiting(self) -> None:
        if self._retry:
            self._retry.cancel()
            self._retry = None
        if self._stopping.is_set():
            return
        waiting, self._waiting = self._waiting, []
        for connected in waiting:
            self._hand_over(connected)
        if self._listener and not self._waiting:
            self._listener.open()

    def _later(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _within(wait: Awaitable[object], seconds: float) -> bool:
    try:
        await asyncio.wait_for(wait, seconds)
    except TimeoutError:
        return False
    return True
