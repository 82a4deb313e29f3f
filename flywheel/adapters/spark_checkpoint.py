"""Ties what a streaming query writes to its checkpoint: batch numbers mean something only together with it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

_AFRESH = "`make clean` starts afresh"


class LostTrack(Exception):
    """The checkpoint and what was written under it do not belong together; the message names the way out."""


class Claimable(Protocol):
    """A sink that remembers which stream fills it."""

    def claim(self, source: str) -> str: ...

    def source(self) -> str | None: ...


class Checkpoint:
    """A query's checkpoint directory. `declaration` changes when what is written under it would."""

    def __init__(self, directory: Path, declaration: str) -> None:
        self._directory = directory
        self._declaration = declaration
        self._start = directory.with_name(f"{directory.name}.start.json")

    @property
    def identity(self) -> str | None:
        """Names query and declaration; None before the query first started."""
        metadata = self._directory / "metadata"
        return f"{json.loads(metadata.read_text())['id']}/{self._declaration}" if metadata.exists() else None

    @property
    def has_committed(self) -> bool:
        """Whether any micro-batch was finished."""
        commits = self._directory / "commits"
        return commits.is_dir() and any(file.name.isdigit() for file in commits.iterdir())

    def positions(self) -> dict[str, dict[str, int]]:
        """Next offset by topic and partition after the last micro-batch that was finished; empty before the first."""
        commits = self._directory / "commits"
        finished = [int(file.name) for file in commits.iterdir() if file.name.isdigit()] if commits.is_dir() else []
        if not finished:
            return {}
        lines = (self._directory / "offsets" / str(max(finished))).read_text().splitlines()
        found: dict[str, dict[str, int]] = json.loads(lines[-1])
        return found

    def begin_anew(self, positions: Mapping[str, Mapping[str, int]]) -> None:
        """Forgets the query; the next one reads from these offsets on."""
        self._start.parent.mkdir(parents=True, exist_ok=True)
        self._start.write_text(json.dumps(positions))
        shutil.rmtree(self._directory, ignore_errors=True)

    @property
    def beginning(self) -> dict[str, dict[str, int]]:
        """The offsets of `begin_anew` while the query that reads from there on has finished nothing, otherwise none."""
        if self.has_committed or not self._start.exists():
            return {}
        found: dict[str, dict[str, int]] = json.loads(self._start.read_text())
        return found

    def check(self, sink: Claimable, what: str, way_out: str = _AFRESH) -> None:
        """Raises LostTrack unless the query may go on writing to the sink, called `what` in the message."""
        written_by, identity = sink.source(), self.identity
        if written_by == identity or (written_by is None and not self.has_committed):
            return
        if written_by is None:
            reason = f"{what} is empty, but the checkpoint {self._directory} says that it was filled"
        elif identity is None:
            reason = f"the checkpoint {self._directory} is gone, but {what} was filled under it"
        else:
            reason = f"{what} was filled under another checkpoint or declaration than {self._directory}"
        raise LostTrack(f"{reason}; {way_out}")

    def claim(self, sink: Claimable, what: str, way_out: str = _AFRESH) -> None:
        """Makes the sink this query's own; raises LostTrack when it is another's or was emptied since."""
        self.check(sink, what, way_out)
        if self.identity is not None:
            sink.claim(self.identity)
