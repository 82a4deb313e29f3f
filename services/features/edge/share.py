"""Several lanes share the partitions of the log; each tells the others how far it is in its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar

from flywheel.contracts.settings import PlatformSettings

_T = TypeVar("_T")


@dataclass(frozen=True)
class Share:
    """Which partitions of every topic a lane follows: one in `of`, from `number` on.

    Fixed rather than given out by a group: a lane that dies is started again sooner than a group notices, and finds
    its edges where they were. Until then decisions see features grow stale.

    >>> [partition for partition in range(6) if Share(1, 3).has(partition)]
    [1, 4]
    """

    number: int = 0
    of: int = 1

    def has(self, partition: int) -> bool:
        """Whether it follows the partition of that number."""
        return partition % self.of == self.number

    def part(self, positions: Mapping[tuple[str, int], _T]) -> dict[tuple[str, int], _T]:
        """What is about its partitions."""
        return {place: value for place, value in positions.items() if self.has(place[1])}

    def rest(self, positions: Mapping[tuple[str, int], _T]) -> dict[tuple[str, int], _T]:
        """What is about the others' partitions."""
        return {place: value for place, value in positions.items() if not self.has(place[1])}


def share_of(settings: PlatformSettings) -> Share:
    """The share of the lane with these settings. Raises ValueError where there are not so many lanes."""
    if settings.edge_replica >= settings.edge_replicas:
        raise ValueError(
            f"FLYWHEEL_EDGE_REPLICA is {settings.edge_replica}, but of {settings.edge_replicas} lanes the last is "
            f"{settings.edge_replicas - 1}; raise FLYWHEEL_EDGE_REPLICAS for all of them"
        )
    return Share(settings.edge_replica, settings.edge_replicas)


class Told(NamedTuple):
    """How far a lane is in a partition: everything below `offset` is on an edge or in a state."""

    offset: int
    newest_us: int | None
    """The newest event time it read there since it began."""
    source: str
    """The stream whose store that is."""
    at_us: int
    """When the lane said so, by the wall clock."""


class Peers(Protocol):
    """What lanes tell each other. Both raise Unavailable."""

    def tell(self, told: Mapping[tuple[str, int], Told]) -> None:
        """Says how far this lane is; returns at once."""

    def hear(self, places: list[tuple[str, int]]) -> dict[tuple[str, int], Told]:
        """What was said last of those partitions; nothing of those of which nobody said anything."""


class Alone:
    """Nobody to tell."""

    def tell(self, told: Mapping[tuple[str, int], Told]) -> None:
        """Forgets it."""

    def hear(self, places: list[tuple[str, int]]) -> dict[tuple[str, int], Told]:
        """Nothing."""
        del places
        return {}
