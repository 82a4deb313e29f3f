"""A feature reader that goes by what it read a moment ago, of the entities whose tables are declared so."""

from __future__ import annotations

from collections.abc import Callable

from flywheel.kernel.declaration import UseCase
from flywheel.kernel.ports import Answer, FeatureReader, Question
from flywheel.kernel.stored_cache import StoredCache

OnLookup = Callable[[str, int, int, float], None]
"""Hears of each look: entity, rows that were there, rows that were not, seconds since the oldest of them was read."""


class CachedReader:
    """The reader, asked only for what is not known; `capacity` entities of a kind are remembered.

    Windows, the store's progress and all tables without `cached_for` are read each time.
    """

    def __init__(
        self,
        reader: FeatureReader,
        usecase: UseCase,
        *,
        capacity: int,
        steady_s: Callable[[], float],
        on_lookup: OnLookup = lambda _entity, _hits, _misses, _oldest_s: None,
    ) -> None:
        self._reader = reader
        self._steady_s = steady_s
        self._on_lookup = on_lookup
        self._caches = [
            (place, read.entity.name, StoredCache(read.plan, keep_s=read.cached_us / 1e6, capacity=capacity))
            for place, read in enumerate(usecase.attribute_reads)
            if read.cached_us is not None
        ]

    async def read(self, question: Question, timeout_s: float) -> Answer:
        """As the reader behind it; what is known of cached tables may be as old as is declared."""
        if not question.attributes or not self._caches:
            return await self._reader.read(question, timeout_s)
        now_s, asked = self._steady_s(), list(question.attributes)
        looked = [(place, cache, cache.look(asked[place], now_s)) for place, _, cache in self._caches]
        for (_, entity, _), (place, _, lookup) in zip(self._caches, looked, strict=True):
            asked[place] = lookup.missing
            self._on_lookup(entity, lookup.hits, len(lookup.places), lookup.oldest_s)
        answer = await self._reader.read(question._replace(attributes=asked), timeout_s)
        found = list(answer.attributes)
        for place, cache, lookup in looked:
            # From when it was asked for: what was stored later may be missing in the answer.
            found[place] = cache.join(lookup, found[place], now_s)
        return answer._replace(attributes=found)

    async def close(self) -> None:
        """Closes the reader."""
        await self._reader.close()
