"""Erases one entity from the files of a use case: training history, logged decisions, dead letters, the lake."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from flywheel.adapters import parquet_erasure
from flywheel.adapters.dead_letter_folder import FOLDER, DeadLetterFolder
from flywheel.adapters.jsonl_erasure import remove_lines
from flywheel.adapters.lake_lock import rewriting, writing
from flywheel.adapters.parquet_erasure import Rows
from flywheel.client.errors import ClientError
from flywheel.contracts.events import Event
from flywheel.contracts.settings import PlatformSettings
from flywheel.kernel.declaration import UseCase
from flywheel.kernel.erasure import Erasures, entity_named, named_in, unit_entity, words
from flywheel.kernel.features import Entity

_LAKE_TIMEOUT_S = 900.0


@dataclass(frozen=True)
class Subject:
    """Who is erased: an entity of a use case, its id in as many parts as its key has fields."""

    usecase: UseCase
    entity: Entity
    parts: tuple[str, ...]

    @classmethod
    def named(cls, usecase: UseCase, entity: str, parts: Sequence[str]) -> Subject:
        """Raises ClientError for an unknown entity or another number of parts than its key has."""
        try:
            found = entity_named(usecase, entity)
        except KeyError:
            names = ", ".join(known.name for known in usecase.entities)
            raise ClientError(f"use case {usecase.name!r} has no entity {entity!r}; its entities are {names}") from None
        if len(parts) != len(found.keys):
            raise ClientError(f"the id of a {entity} is given as {' '.join(found.keys).upper()}")
        return cls(usecase, found, tuple(parts))

    @property
    def keys(self) -> dict[str, str]:
        """The id's parts by the entity's own fields."""
        return dict(zip(self.entity.keys, self.parts, strict=True))

    def ways(self, event: type[Event]) -> list[dict[str, str]]:
        """In which fields an event may name it, and the values they then have."""
        named = named_in(self.usecase, event)
        return [dict(zip(fields, self.parts, strict=True)) for name, fields in named if name == self.entity.name]

    @property
    def is_unit(self) -> bool:
        """Whether decisions are logged by it."""
        return unit_entity(self.usecase) == self.entity.name

    def is_in(self, raw: bytes) -> bool:
        """Whether bytes mention it."""
        # Most records do not hold the text at all; taking every one apart would cost a hundred times as much.
        return all(part.encode() in raw for part in self.parts) and set(self.parts) <= set(words(raw))


@dataclass(frozen=True)
class Files:
    """The files of one use case that hold the subject, as of the moment of its erasure."""

    subject: Subject
    settings: PlatformSettings
    until_us: int

    @property
    def lake(self) -> Path:
        return self.settings.lake_dir / self.subject.usecase.name

    def held(self, *, dry_run: bool) -> AbstractContextManager[None]:
        """While the lake is erased, or for a dry run only read: nobody adds to it, or rewrites it, meanwhile.

        Raises Unavailable while somebody writes the lake all the time.
        """
        return writing(self.lake) if dry_run else rewriting(self.lake, timeout_s=_LAKE_TIMEOUT_S)

    def erase(self, erasures: Erasures, *, dry_run: bool) -> Iterator[tuple[str, int]]:
        """What went, or would go, from where. To be called, and its end awaited, while the files are `held`.

        The lake's events go last: they alone say which rows elsewhere are about the subject's events, and a run that is
        cut short must find them again.
        """
        if not dry_run:
            parquet_erasure.sweep(self.lake)
        # The label events of erased requests are recognized by them too.
        ids = self._event_ids()
        yield from self._history(ids, dry_run)
        letters = DeadLetterFolder(self.lake / FOLDER)
        unwanted = [letter for letter in letters.letters() if letter.names_anyone_in(erasures)]
        yield "dead letters", len(unwanted) if dry_run else letters.remove(unwanted.__contains__)
        world = self.settings.data_dir / "world" / self.subject.usecase.name
        yield "world's truth", remove_lines(world, lambda line: not ids.isdisjoint(words(line)), dry_run=dry_run)
        yield from self._lake(ids, dry_run)

    def _event_ids(self) -> frozenset[str]:
        """Of the subject's request events, from wherever they are still known."""
        request = self.lake / self.subject.usecase.request.event_name
        mine = Rows(self.subject.ways(self.subject.usecase.request), until_us=self.until_us)
        return frozenset().union(*(parquet_erasure.values(f, "event_id", mine) for f in (request, self._snapshots)))

    @property
    def _snapshots(self) -> Path:
        return self.settings.history_dir / self.subject.usecase.name

    def _history(self, ids: frozenset[str], dry_run: bool) -> Iterator[tuple[str, int]]:
        rows = Rows([self.subject.keys], {"event_id": ids}, self.until_us)
        for view in _folders(self._snapshots):
            yield f"training history: {view.name}", _apply(view, rows, dry_run)

    def _lake(self, ids: frozenset[str], dry_run: bool) -> Iterator[tuple[str, int]]:
        usecase = self.subject.usecase
        events = {event.event_name for event in usecase.events}
        folders = [folder for folder in _folders(self.lake) if folder.name != FOLDER]
        for folder in sorted(folders, key=lambda folder: (folder.name in events, folder.name)):
            yield f"lake: {folder.name}", _apply(folder, self._rows(folder.name, ids), dry_run)

    def _rows(self, folder: str, ids: frozenset[str]) -> Rows:
        usecase = self.subject.usecase
        event = {event.event_name: event for event in usecase.events}.get(folder)
        if event is None:
            unit = [{"unit": self.subject.parts[0]}] if self.subject.is_unit else []
            return Rows([self.subject.keys, *unit], {"event_id": ids}, self.until_us)
        # The ids of another event's own are none of the request's.
        among = {usecase.label.joins: ids} if event is usecase.label.event else {}
        return Rows(self.subject.ways(event), among, self.until_us)


def _apply(folder: Path, rows: Rows, dry_run: bool) -> int:
    return parquet_erasure.count(folder, rows) if dry_run else parquet_erasure.remove(folder, rows)


def _folders(directory: Path) -> list[Path]:
    if not directory.is_dir():
        return []
    return sorted(path for path in directory.iterdir() if path.is_dir() and not path.name.startswith((".", "_")))
