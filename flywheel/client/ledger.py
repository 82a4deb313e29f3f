"""Where the world stands and what it has sent so far, kept on disk."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from flywheel.client.deliveries import Kind
from flywheel.client.errors import ClientError, WorldInPlay
from flywheel.kernel.world import Day, WorldKnobs

_FREE_TO_CHANGE = frozenset({"rate", "decisions", "history_days", "drift_kind", "drift_day", "drift_factor"})
_COUNTS = ("sent", "accepted", "rejected", "duplicates", "late", "malformed")
FAILED = "failed"


class Ledger:
    """The position (next delivery of which day) and the counts, changed together and written in one atomic step.

    `position.json` is what a restart continues from; `counts.json` is a copy of the counts for others to read.
    A delivery is in the counts once ingest has said what became of it: sent = accepted + rejected.
    """

    def __init__(self, directory: Path, knobs: WorldKnobs) -> None:
        self._directory = directory
        self._knobs = {
            name: value for name, value in knobs.model_dump(mode="json").items() if name not in _FREE_TO_CHANGE
        }
        directory.mkdir(parents=True, exist_ok=True)
        self._lock = (directory / "lock").open("w")
        self.day = 0
        self.index = 0
        self.event_time_us = 0
        self.events: dict[str, dict[str, int]] = {}
        self.decisions: dict[str, int] = {}
        self.resent_batches = 0
        try:
            self._claim()
            self._load()
        except ClientError:
            self._lock.close()
            raise

    def accepted(self, event_name: str, kind: Kind) -> None:
        """Ingest accepted one event of that kind."""
        self._count(event_name, "accepted", kind)

    def rejected(self, event_name: str, kind: Kind) -> None:
        """Ingest rejected one event of that kind."""
        self._count(event_name, "rejected", kind)

    def decided(self, action: str) -> None:
        """Serving answered, or `FAILED` to."""
        self.decisions[action] = self.decisions.get(action, 0) + 1

    def advance(self, day: int, index: int, event_time_us: int) -> None:
        """Everything before delivery `index` of `day` is done with; writes position and counts."""
        self.day, self.index, self.event_time_us = day, index, event_time_us
        counts = self.counts()
        position = {"day": day, "index": index, "event_time_us": event_time_us, "knobs": self._knobs, "counts": counts}
        _replace(self._directory / "position.json", position)
        _replace(self._directory / "counts.json", counts)

    def counts(self) -> dict[str, Any]:
        """What has been sent since the world began, by event, and what was decided, by action."""
        return {
            "updated_at": datetime.now(UTC).isoformat(),
            "events": self.events,
            "decisions": self.decisions,
            "resent_batches": self.resent_batches,
        }

    def reveal(self, day: Day) -> None:
        """Writes the truth about a day, for people; one JSON object a line."""
        path = self._directory / "truth" / f"day-{day.number:05d}.jsonl"
        path.parent.mkdir(exist_ok=True)
        lines = [orjson.dumps({"event_id": truth.event_id, "cause": truth.cause}) for truth in day.truth]
        _write(path, b"".join(line + b"\n" for line in lines))

    def close(self) -> None:
        """Lets another process play this world."""
        self._lock.close()

    def _count(self, event_name: str, outcome: str, kind: Kind) -> None:
        counts = self.events.setdefault(event_name, dict.fromkeys(_COUNTS, 0))
        counts["sent"] += 1
        counts[outcome] += 1
        what = {Kind.DUPLICATE: "duplicates", Kind.LATE: "late", Kind.MALFORMED: "malformed"}.get(kind)
        if what:
            counts[what] += 1

    def _claim(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise WorldInPlay(f"the world in {self._directory} is already being played; `make status`") from error

    def _load(self) -> None:
        path = self._directory / "position.json"
        if not path.exists():
            return
        stored = orjson.loads(path.read_bytes())
        changed = sorted(_differing(stored["knobs"], self._knobs))
        if changed:
            raise ClientError(
                f"the world in {self._directory} was begun with other knobs ({', '.join(changed)}); "
                "set them back, or start a new world after `make clean`"
            )
        self.day, self.index, self.event_time_us = stored["day"], stored["index"], stored["event_time_us"]
        counts = stored["counts"]
        self.events, self.decisions = counts["events"], counts["decisions"]
        self.resent_batches = counts["resent_batches"]


def _differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> set[str]:
    return {name for name in one.keys() | other.keys() if one.get(name) != other.get(name)}


def _replace(path: Path, content: Mapping[str, Any]) -> None:
    _write(path, orjson.dumps(content, option=orjson.OPT_INDENT_2))


def _write(path: Path, content: bytes) -> None:
    beside = path.with_name(path.name + ".new")
    beside.write_bytes(content)
    os.replace(beside, path)
