"""The in-memory twin of the dead letters in the lake."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from flywheel.kernel.dead_letters import DeadLetter


class MemoryDeadLetters:
    """Keeps the newest batches up to `most` letters or a batch more."""

    def __init__(self, *, most: int = 10_000) -> None:
        self._most = most
        self._batches: dict[int, tuple[list[DeadLetter], dict[str, int]]] = {}

    def write(self, batch_id: int, letters: Sequence[DeadLetter], seen: Mapping[str, int]) -> None:
        """Keeps the letters of a micro-batch; one that comes again replaces its own."""
        self._batches[batch_id] = (list(letters), dict(seen))
        rows = 0
        for number in sorted(self._batches, reverse=True):
            kept, counted = self._batches[number]
            self._batches[number] = ([] if rows >= self._most else kept, counted)
            rows += len(kept)

    def letters(self) -> list[DeadLetter]:
        """Those that are kept, oldest first."""
        return [letter for number in sorted(self._batches) for letter in self._batches[number][0]]

    def seen(self) -> dict[str, int]:
        """How many records there were in all, by what became of them."""
        total: Counter[str] = Counter()
        for _, seen in self._batches.values():
            total.update(seen)
        return dict(sorted(total.items()))

    def kept(self) -> int:
        """How many letters are kept."""
        return len(self.letters())

    def remove(self, unwanted: Callable[[DeadLetter], bool]) -> int:
        """How many letters went."""
        before = self.kept()
        self._batches = {
            number: ([letter for letter in letters if not unwanted(letter)], seen)
            for number, (letters, seen) in self._batches.items()
        }
        return before - self.kept()
