"""The in-memory twin of the erasures' topic, for tests without a broker."""

from __future__ import annotations

from flywheel.contracts.erasure import Erased
from flywheel.kernel.erasure import EraseKey, Erasures
from flywheel.kernel.ports import Unavailable


class MemoryErasures:
    """One log and its readers in one; `as_read_under` gives a reader with a key of its own. Set `away` to fail."""

    def __init__(self, key: EraseKey, published: list[Erased] | None = None) -> None:
        self._key = key
        self._published = [] if published is None else published
        self.away = False

    def as_read_under(self, key: EraseKey) -> MemoryErasures:
        """Another reader of the same log."""
        return MemoryErasures(key, self._published)

    def publish(self, erased: Erased) -> None:
        """Keeps it. Raises Unavailable while away."""
        if self.away:
            raise Unavailable("the broker does not answer")
        self._published.append(erased)

    def current(self) -> Erasures:
        """All erasures published so far. Raises Unavailable while away, and OtherKey."""
        if self.away:
            raise Unavailable("the broker does not answer")
        return Erasures(self._key).including(self._published)

    def close(self) -> None:
        """Nothing to let go of."""
