"""A spool of decisions in front of a log in memory, for tests of what it keeps over deaths and outages."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from flywheel.adapters.decision_spool import Promise, SpooledDecisionLog, Told
from flywheel.adapters.memory_decision_log import MemoryDecisionLog

RECORDS = [(f"k{number}".encode(), b"v" * number) for number in range(20)]


class Scene:
    """A spool in front of a log in memory, and what both told."""

    def __init__(self, directory: Path, promise: Promise = "process", patience_s: float = 10.0, **limits: int) -> None:
        self.ends: Counter[str] = Counter()
        self.waits: list[float] = []
        told = Told(
            acknowledged=lambda: self.count("acknowledged"),
            lost=self.count,
            replayed=lambda: self.count("replayed"),
            unprotected=lambda reason, records: self.ends.update({f"unprotected {reason}": records}),
            waited=self.waits.append,
        )
        self.behind = MemoryDecisionLog(
            on_acknowledged=told.acknowledged, on_lost=told.lost, capacity=limits.get("capacity", 10_000)
        )
        self.log = SpooledDecisionLog(
            self.behind,
            directory,
            told,
            promise=promise,
            capacity_bytes=limits.get("capacity_bytes", 1 << 20),
            patience_s=patience_s,
        )

    def count(self, end: str) -> None:
        self.ends[end] += 1

    @asynccontextmanager
    async def living(self) -> AsyncIterator[SpooledDecisionLog]:
        """Until the block ends, by death: nothing is closed but what the kernel closes."""
        self.log.start()
        yield self.log
        for task in self.log._tasks:
            task.cancel()
        if self.log._slot is not None:
            self.log._slot.release()

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(5):
            while not condition():
                self.behind._deliver()
                await asyncio.sleep(0.001)


def files(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*.spool") if path.stat().st_size]


async def append(log: SpooledDecisionLog, records: list[tuple[bytes, bytes]]) -> None:
    waiting = log.append_many(records)
    if waiting is not None:
        await waiting


def raising(error: Exception) -> Callable[..., int]:
    def raise_it(*_: object) -> int:
        raise error

    return raise_it
