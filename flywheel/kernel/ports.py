"""What the platform needs from the technologies below it. Adapters fulfil these ports; tests hold each to one suite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from flywheel.contracts.models import Deployment, ModelManifest


class Unavailable(Exception):
    """A dependency did not answer in time; the caller backs off or falls back."""


@dataclass(frozen=True)
class Record:
    """One record of a topic."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes


class EventLog(Protocol):
    """Appends records; each is durable when its call returns."""

    async def append(self, topic: str, records: Sequence[tuple[bytes, bytes]]) -> list[Exception | None]:
        """Appends (key, value) pairs; for each, in order, None once the broker acknowledged it, else why not."""

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
class StoreProgress:
    """How far the stream that fills the store has come.

    Everything the broker acknowledged before `visible_until_us` (wall clock) is readable;
    `updated_us` is when that was last true to say.
    """

    visible_until_us: int
    updated_us: int


class FeatureReader(Protocol):
    """The online store as a decision sees it."""

    async def read(self, keys: Sequence[ViewKey], timeout_s: float) -> tuple[list[bytes | None], StoreProgress | None]:
        """Packed states in the order of `keys` (None where absent) and the store's progress, in one round trip.

        Raises Unavailable.
        """

    async def close(self) -> None: ...


class FeatureWriter(Protocol):
    """The online store as the stream sees it."""

    def read(self, keys: Sequence[ViewKey]) -> list[bytes | None]:
        """Packed states in the order of `keys`."""

    def write(self, states: Mapping[ViewKey, tuple[bytes, int]], counted: Mapping[str, int]) -> None:
        """Replaces the states and adds to the counters, all in one atomic step.

        A state comes with the event time in microseconds of its newest event.
        """

    def counters(self) -> dict[str, int]:
        """Events counted so far, by `<view>.<event>`."""

    def report(self, progress: StoreProgress) -> None:
        """Publishes how far the store is."""

    def claim(self, source: str) -> str:
        """The id of the stream that fills this store: `source` if it had none before, which it then keeps."""

    def source(self) -> str | None:
        """The id of the stream that fills this store; None for an empty one."""


class DecisionLog(Protocol):
    """Where answered decisions go. Each record handed over ends as acknowledged or as lost, and is counted as such."""

    @property
    def in_flight(self) -> int:
        """Records that are neither acknowledged nor lost yet."""

    def start(self) -> None:
        """To be called once, on the event loop that appends."""

    def append(self, key: bytes, value: bytes) -> None:
        """Hands a record over; returns at once whatever becomes of it."""

    async def close(self, timeout_s: float) -> None:
        """Waits up to `timeout_s` for what is under way; the rest is lost, and counted so."""


class ModelStore(Protocol):
    """Published models and the append-only log of deployments."""

    def publish(self, manifest: ModelManifest, model: bytes) -> None:
        """Stores a version; publishing the same version again with other content is refused with ValueError."""

    def load(self, usecase: str, version: str) -> tuple[ModelManifest, bytes]:
        """A version, its digest verified. KeyError when unknown, CorruptModel when the bytes do not match."""

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
