"""A fair sample of a stream of unknown length in bounded memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Reservoir(Generic[T]):
    """Up to `size` items, each of those offered as likely as any other (Vitter's algorithm R).

    `draw(n)` gives a random whole number below n, each as likely.

    >>> from random import Random
    >>> reservoir = Reservoir[int](3, Random(1).randrange)
    >>> for number in range(100):
    ...     reservoir.offer(number)
    >>> reservoir.offered, len(reservoir.drain()), reservoir.drain()
    (100, 3, [])
    """

    def __init__(self, size: int, draw: Callable[[int], int]) -> None:
        if size < 1:
            raise ValueError("a sample has at least one item")
        self._size = size
        self._draw = draw
        self._kept: list[T] = []
        self.offered = 0

    def offer(self, item: T) -> None:
        """The item may be kept, in the place of another when there are enough."""
        self.offered += 1
        if len(self._kept) < self._size:
            self._kept.append(item)
            return
        place = self._draw(self.offered)
        if place < self._size:
            self._kept[place] = item

    def drain(self) -> list[T]:
        """What was kept; the next sample begins with nothing."""
        kept, self._kept, self.offered = self._kept, [], 0
        return kept
