"""The online feature store in memory: the twin of `redis_store` for tests and for trying things out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from flywheel.kernel.ports import StoreProgress, ViewKey


class MemoryFeatureStore:
    """A writer; `reader()` gives the decision's side of the same store."""

    def __init__(self) -> None:
        self.states: dict[ViewKey, bytes] = {}
        self.progress: StoreProgress | None = None
        self._counted: Counter[str] = Counter()
        self._source: str | None = None

    def reader(self) -> MemoryFeatureReader:
        """The same store as a decision sees it."""
        return MemoryFeatureReader(self)

    def read(self, keys: Sequence[ViewKey]) -> list[bytes | None]:
        """Packed states in the order of `keys`."""
        return [self.states.get(key) for key in keys]

    def write(self, states: Mapping[ViewKey, tuple[bytes, int]], counted: Mapping[str, int]) -> None:
        """Replaces the states and adds to the counters."""
        self.states.update({key: state for key, (state, _) in states.items()})
        self._counted.update(counted)

    def counters(self) -> dict[str, int]:
        """Events counted so far, by `<view>.<event>`."""
        return dict(self._counted)

    def report(self, progress: StoreProgress) -> None:
        """Publishes how far the store is."""
        self.progress = progress

    def claim(self, source: str) -> str:
        """The id of the stream that fills this store: `source` if it had none before, which it then keeps."""
        if self._source is None:
            self._source = source
        return self._source

    def source(self) -> str | None:
        """The id of the stream that fills this store; None for an empty one."""
        return self._source


class MemoryFeatureReader:
    """Reads what the store holds at that moment."""

    def __init__(self, store: MemoryFeatureStore) -> None:
        self._store = store

    async def read(
        self,
        keys: Sequence[ViewKey],
        timeout_s: float,  # noqa: ARG002  the port's; memory answers at once
    ) -> tuple[list[bytes | None], StoreProgress | None]:
        """Packed states in the order of `keys` and the store's progress."""
        return self._store.read(keys), self._store.progress

    async def close(self) -> None:
        """Nothing to let go of."""
