"""What the platform needs from the technologies below it. Adapters fulfil these ports; tests hold each to one suite."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from flywheel.contracts.erasure import Erased
from flywheel.contracts.models import Deployment, ModelManifest
from flywheel.kernel.attributes import AttributeRow, AttributeTable
from flywheel.kernel.dead_letters import DeadLetter
from flywheel.kernel.erasure import Erasures
from flywheel.kernel.stored import StoredColumns, StoredRequest


class Unavailable(Exception):
    """A dependency did not answer in time; the caller backs off or falls back."""


class PartlyUnavailable(Unavailable):
    """A part of what was asked for is there; who asks for that alone gets it."""


@dataclass(frozen=True)
class Record:
    """One record of a topic."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes
    trace: str = ""
    """The `traceparent` it was sent with, if any."""


class EventLog(Protocol):
    """Appends records; each is durable when its call returns."""

    async def append(
        self, topic: str, records: Sequence[tuple[bytes, bytes]], *, trace: str = ""
    ) -> list[Exception | None]:
        """Appends (key, value) pairs; for each, in order, None once the broker acknowledged it, else why not.

        `trace` is the `traceparent` that goes with them.
        """

    async def ready(self) -> bool:
        """Whether the broker answers."""

    async def close(self) -> None:
        """Waits for what is under way, then lets go."""


class RecordReader(Protocol):
    """Reads records of some topics in order, each partition on its own, from the group's last committed position."""

    def poll(self, timeout_s: float, limit: int) -> list[Record]:
        """Up to `limit` records; empty when none came within the time."""

    def commit(self) -> None:
        """Everything polled so far is done with."""

    def lag(self) -> int:
        """Records not polled yet."""

    def close(self) -> None:
        """Lets go of the partitions without committing."""


@dataclass(frozen=True)
class ViewKey:
    """One entity's row of one feature view."""

    view: str
    entity_id: str


@dataclass(frozen=True)
class Stored:
    """What the online store has of one entity in one view, both as of one moment; None for what is absent."""

    state: bytes | None = None
    edge: bytes | None = None


@dataclass(frozen=True)
class StoreProgress:
    """How far the lanes that fill the store have come.

    Everything the broker acknowledged before `visible_until_us` (wall clock) is readable, by one lane or the other;
    `updated_us` is when that was last true to say.
    """

    visible_until_us: int
    updated_us: int
    newest_event_us: int | None = None
    """The newest time of an event that the lane has ever read; None where it does not know."""


def furthest(lanes: Iterable[StoreProgress]) -> StoreProgress | None:
    """The progress of the lane that is further, and the stream's present, which is the newest event of any lane."""
    told = list(lanes)
    if not told:
        return None
    known_us = [lane.newest_event_us for lane in told if lane.newest_event_us is not None]
    first = max(told, key=lambda lane: lane.visible_until_us)
    return StoreProgress(first.visible_until_us, first.updated_us, max(known_us, default=None))


def total_of(counters: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    """Counters that are kept in several places, added up.

    >>> total_of({"here": {"a": 1, "b": 2}, "there": {"b": 3}})
    {'a': 1, 'b': 5}
    """
    total: Counter[str] = Counter()
    for counted in counters.values():
        total.update(counted)
    return dict(total)


class Question(NamedTuple):
    """What a decision asks the online store for."""

    keys: Sequence[ViewKey]
    attributes: Sequence[StoredRequest] = ()
    """One for each of the use case's `attribute_reads`, in their order."""


class Answer(NamedTuple):
    """What the online store answers, all of it in the order of the question."""

    stored: Sequence[Stored]
    progress: StoreProgress | None
    attributes: Sequence[StoredColumns] = ()


class FeatureReader(Protocol):
    """The online store as a decision sees it."""

    async def read(self, question: Question, timeout_s: float) -> Answer:
        """What is stored of all that is asked for, and the store's progress, in one round trip. Raises Unavailable."""

    async def close(self) -> None: ...


@dataclass(frozen=True)
class StateWrite:
    """A new state of an entity: the packed bytes, its newest event's time, what it replaces, and what it counts.

    `replaces` is how the state that was read ended, `ending_of` it, by which another writer's is told apart. `counted`
    is what is added to the counters together with it.
    """

    state: bytes
    newest_us: int
    replaces: bytes = b""
    counted: Mapping[str, int] = field(default_factory=dict)

    @staticmethod
    def ending_of(state: bytes | None) -> bytes:
        """The last bytes of a state, where its version is; nothing for none."""
        return (state or b"")[-8:]


class Lane(StrEnum):
    """What fills the store: the stream's tiles, and the edge ahead of them."""

    TILES = "tiles"
    EDGE = "edge"


class FeatureWriter(Protocol):
    """The online store as the lanes see it. Every call raises Unavailable when the store does not answer."""

    def read(self, keys: Sequence[ViewKey]) -> list[Stored]:
        """What is stored under each of `keys`, in their order."""

    @property
    def counters_pause_s(self) -> float:
        """How long whoever asks for the counters again and again should wait in between: it may be much work."""

    def write(self, states: Mapping[ViewKey, StateWrite]) -> list[ViewKey]:
        """Replaces each state and adds what it counts to the counters, both in one atomic step.

        A state that is no longer the one to be replaced is neither written nor counted, and its key comes back. If the
        call fails, some may be written and others not; each is written again without being counted twice, because it
        is another by then.
        """

    def append(self, rows: Mapping[ViewKey, bytes], absorbed: Mapping[int, int]) -> dict[ViewKey, int]:
        """Adds packed rows to the entities' edges, in their order; for each edge, how many rows it holds now.

        A row whose id hash the edge or the state remembers is passed over. Rows below the `absorbed` mark of their
        partition leave the edge.
        """

    def trim(self, keys: Sequence[ViewKey], absorbed: Mapping[int, int]) -> list[ViewKey]:
        """Rows below the `absorbed` mark of their partition leave the entities' edges; whose edges hold rows yet.

        An edge of another declaration goes as a whole: nobody can read it.
        """

    def entities(self, after: int) -> tuple[list[ViewKey], int]:
        """Some of the entities, and where to go on after them; it begins and ends with 0.

        What is there from the beginning to the end of such a walk comes at least once.
        """

    def forget(self, keys: Sequence[ViewKey], clock_us: int) -> int:
        """States of which nothing is read at event time `clock_us` or later go, to the second; how many went.

        An entity that has an edge stays.
        """

    def put(self, table: AttributeTable, rows: Sequence[AttributeRow]) -> None:
        """Replaces what is stored of the rows' entities in this table."""

    def absorbed(self) -> dict[int, int]:
        """By partition, the mark below which the tiles of all entities hold every event."""

    def absorb(self, marks: Mapping[int, int], source: str | None) -> bool:
        """Publishes these marks for the stream of that id; False, and nothing is published, for another's store."""

    def counters(self) -> dict[str, int]:
        """Events counted so far, by `<view>.<event>`."""

    def counters_by_place(self) -> dict[str, dict[str, int]]:
        """The same by where the store keeps them: none ever falls, unless that place has lost what it held."""

    def report(self, lane: Lane, progress: StoreProgress) -> None:
        """Publishes how far a lane is; of a store whose marks are not known nobody can say that, so nothing happens.

        The lane's newest event never becomes an older one, nor unknown again: a lane that begins anew has seen less.
        """

    def claim(self, source: str) -> str:
        """The id of the stream that fills this store: `source` if it had none before, which it then keeps."""

    def source(self) -> str | None:
        """The id of the stream that fills this store; None for an empty one."""

    def hand_over(self, source: str | None) -> None:
        """The store belongs to `source` from now on; None: to whoever claims it next. Its progress is forgotten."""

    def recount(self, counted: Mapping[str, int]) -> None:
        """Sets the counters."""


class DecisionLog(Protocol):
    """Where answered decisions go. Each record handed over ends as acknowledged or as lost, and is counted as such."""

    @property
    def in_flight(self) -> int:
        """Records that are neither acknowledged nor lost yet."""

    def start(self) -> None:
        """To be called once, on the event loop that appends."""

    def append_many(self, records: Sequence[tuple[bytes, bytes]]) -> Awaitable[None] | None:
        """Hands over the records (key, value) of decisions that are about to be answered; returns at once.

        The answers may leave as soon as what is returned is done, which never fails and takes a bounded time; None:
        there is nothing to wait for.
        """

    async def close(self, timeout_s: float) -> None:
        """Waits up to `timeout_s` for what is under way; the rest is lost, and counted so."""


class ErasureLog(Protocol):
    """Everybody who was ever erased."""

    def publish(self, erased: Erased) -> None:
        """Returns once it is durable; whoever asks for `current` from now on gets it. Raises Unavailable."""

    def current(self) -> Erasures:
        """All erasures published so far. Raises Unavailable and OtherKey."""

    def close(self) -> None: ...


class DeadLetters(Protocol):
    """Records that are no event, the newest of them kept, all of them counted."""

    def write(self, batch_id: int, letters: Sequence[DeadLetter], seen: Mapping[str, int]) -> None:
        """Keeps the letters of a micro-batch and counts what was seen in it; numbers rise, the last may come again."""

    def letters(self) -> list[DeadLetter]:
        """Those that are kept, oldest first."""

    def seen(self) -> dict[str, int]:
        """How many records there were in all, kept or not, by what became of them."""

    def kept(self) -> int:
        """How many letters are kept."""

    def remove(self, unwanted: Callable[[DeadLetter], bool]) -> int:
        """How many letters went."""


class ModelStore(Protocol):
    """Published models and the append-only log of deployments."""

    def publish(self, manifest: ModelManifest, model: bytes, attached: Mapping[str, bytes] = ..., /) -> None:
        """Stores a version; publishing the same version again with other content is refused with ValueError.

        `attached` has a file by name for each of the manifest's, and for no others.
        """

    def load(self, usecase: str, version: str) -> tuple[ModelManifest, bytes]:
        """A version, its digest verified. KeyError when unknown, CorruptModel when the bytes do not match."""

    def component(self, usecase: str, version: str, name: str) -> bytes:
        """One file of a version, verified like the model. KeyError when there is none of that name, CorruptModel."""

    def versions(self, usecase: str) -> list[str]:
        """Names of all published versions, sorted."""

    def deploy(self, deployment: Deployment) -> None:
        """Appends to the log; ValueError unless `sequence` is one past the newest."""

    def deployments(self, usecase: str) -> list[Deployment]:
        """The whole log, oldest first."""

    def current(self, usecase: str) -> Deployment | None:
        """The newest entry."""


class CorruptModel(Exception):
    """A model is not what its manifest says, or not what may be run; the one before it stays."""


class Scorer(Protocol):
    """A loaded model."""

    def score(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """Probability of the positive label for each row; shape (n, features) to (n,)."""
