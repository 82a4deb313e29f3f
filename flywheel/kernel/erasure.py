"""Who was erased and until when, known by pseudonyms alone: what every reader of old records asks before it keeps one.

The pseudonym is HMAC-SHA256 under a key of its own. The key of the logs' pseudonyms may be changed at any time; under a
changed key nobody would be recognized here, and a replay would bring everybody back.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from flywheel.contracts.erasure import Erased
from flywheel.contracts.events import Event, to_us
from flywheel.kernel.declaration import UseCase
from flywheel.kernel.features import Entity, join_id

PSEUDONYM_DIGITS = 32
"""128 bits: that two of a million ids share one has a chance of 1 in 10^27, and a stranger's events would go."""

Named = tuple[str, tuple[str, ...]]
"""An entity's name and the fields that together hold its id."""

_CHECK_DIGITS = 8
_SEPARATOR = "\x1f"
_WORDS = re.compile(rb"[A-Za-z0-9._:-]+")


class OtherKey(ValueError):
    """An erasure was written under another key; whoever it is about cannot be recognized."""


@dataclass(frozen=True)
class EraseKey:
    """The secret under which erased ids of one use case are hashed."""

    secret: bytes
    usecase: str

    def pseudonym(self, entity: str, entity_id: str) -> str:
        """32 hexadecimal digits.

        >>> EraseKey(b"secret", "fraud").pseudonym("card", "c1")
        '9612c28745cbc66b4a6e764e8c1de715'
        """
        return self._digest(self.prefix(entity) + entity_id.encode())[:PSEUDONYM_DIGITS]

    def prefix(self, entity: str) -> bytes:
        """What is hashed before the id, so that equal ids of different entities have different pseudonyms."""
        return f"{self.usecase}{_SEPARATOR}{entity}{_SEPARATOR}".encode()

    @cached_property
    def check(self) -> str:
        """Tells two keys apart and gives neither away."""
        return self._digest(f"check{_SEPARATOR}{self.usecase}".encode())[:_CHECK_DIGITS]

    def _digest(self, message: bytes) -> str:
        return hmac.digest(self.secret, message, "sha256").hex()


class Erasures:
    """All erasures of one use case. Immutable; `including` gives the next.

    >>> none = Erasures(EraseKey(b"secret", "fraud"))
    >>> bool(none), none.covers("card", "c1", 0)
    (False, False)
    """

    def __init__(self, key: EraseKey, until_us: Mapping[tuple[str, str], int] | None = None) -> None:
        self.key = key
        self._until_us = dict(until_us or {})
        self._entities = frozenset(entity for entity, _ in self._until_us)

    def __bool__(self) -> bool:
        return bool(self._until_us)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Erasures) and self._until_us == other._until_us

    __hash__ = None  # type: ignore[assignment]

    def including(self, erased: Iterable[Erased]) -> Erasures:
        """These and those. Raises OtherKey."""
        until_us = dict(self._until_us)
        for one in erased:
            if one.key_check != self.key.check:
                raise OtherKey(
                    f"an erasure of {one.erased_at:%Y-%m-%d} was written under another FLYWHEEL_ERASURE_KEY; "
                    "set the key that was set then"
                )
            place = (one.entity, one.pseudonym)
            until_us[place] = max(to_us(one.erased_at), until_us.get(place, 0))
        return Erasures(self.key, until_us)

    def of(self, entity: str) -> dict[str, int]:
        """By pseudonym, until when (microseconds) what arrived about erased entities of that name is gone."""
        return {pseudonym: until for (name, pseudonym), until in self._until_us.items() if name == entity}

    def covers(self, entity: str, entity_id: str, arrived_us: int) -> bool:
        """Whether what arrived at that moment about this entity is erased."""
        if entity not in self._entities:
            return False
        until_us = self._until_us.get((entity, self.key.pseudonym(entity, entity_id)))
        return until_us is not None and arrived_us <= until_us

    def covers_event(self, named: Iterable[Named], fields: Mapping[str, Any], arrived_us: int) -> bool:
        """Whether an event that arrived at that moment names somebody erased.

        `named` as `named_in` gives it, `fields` the event's own. Costs nothing while nobody was erased, and about two
        microseconds for each entity of whose kind somebody was.
        """
        if not self._until_us:
            return False
        return any(
            self.covers(entity, join_id([str(fields[name]) for name in names]), arrived_us)
            for entity, names in named
            if entity in self._entities and all(fields.get(name) is not None for name in names)
        )

    def mentioned_in(self, raw: bytes, arrived_us: int) -> bool:
        """Whether bytes that are no event contain the id of somebody erased, of whatever entity, as a word."""
        return bool(self._until_us) and any(
            self.covers(entity, word, arrived_us) for word in words(raw) for entity in self._entities
        )


def named_in(usecase: UseCase, event: type[Event]) -> tuple[Named, ...]:
    """The entities that an event of that type names, in whatever role, and the fields that hold the id of each."""
    fields = set(event.model_fields)
    roles = ((entity.name, keys) for entity in usecase.entities for keys in _roles(usecase, entity, event))
    return tuple(dict.fromkeys((name, keys) for name, keys in roles if fields.issuperset(keys)))


def named_by(usecase: UseCase, keys: tuple[str, ...]) -> tuple[Named, ...]:
    """The entities that whatever is kept under these keys names: the one itself, and those that are a part of it."""
    return tuple((entity.name, entity.keys) for entity in usecase.entities if {*entity.keys} <= {*keys})


def _roles(usecase: UseCase, entity: Entity, event: type[Event]) -> Iterator[tuple[str, ...]]:
    yield from (entity.keys, entity.request_keys)
    yield from (f.key_fields for f in usecase.windowed if f.entity == entity and f.event is event)


def entity_named(usecase: UseCase, name: str) -> Entity:
    """The entity of that name; KeyError when there is none."""
    return {entity.name: entity for entity in usecase.entities}[name]


def unit_entity(usecase: UseCase) -> str | None:
    """The entity by which decisions are logged; None when their unit is no entity."""
    unit = usecase.experiment.unit
    return next((entity.name for entity in usecase.entities if (unit,) in (entity.keys, entity.request_keys)), None)


def words(raw: bytes) -> Iterator[str]:
    """Everything in the bytes that could be an id, and its parts between colons.

    >>> sorted(words(b'"c1", t:7'))
    ['7', 'c1', 't', 't:7']
    """
    for found in _WORDS.findall(raw):
        word = found.decode()
        yield word
        if ":" in word:
            yield from filter(None, word.split(":"))
