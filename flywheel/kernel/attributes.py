"""Attributes: numbers known of an entity beforehand, loaded table by table from a batch, valid until the next load.

attributes("terminal_profile", "floor_limit_cents", "opened_days").by(terminal).valid_for("30d", default=-1.0)

A load is as of a moment. Of an entity the newest load, by its moment, of those made so far is online; at time `t` the
attribute has that load's value while `as of <= t` and it is no older than the table is valid for. Otherwise, and where
the loaded value is null, it has its default. Decisions and Feast's view go by that, and training for every request
that arrived live. A request of a backfilled past sees the newest load as of its own time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from flywheel.contracts.decisions import FeatureStatus
from flywheel.contracts.events import Event
from flywheel.kernel.durations import MINUTE_US, parse_duration
from flywheel.kernel.features import AttributeFeature, Column, Entity, InvalidDeclaration, join_id
from flywheel.kernel.stored import JoinKey, StoredColumns, StoredFeature, StoredRequest, StoredStatus, StoredView
from flywheel.kernel.stored_plan import StoredPlan

AS_OF = "as_of"
"""Column of a loaded file that says, row by row, of which moment it is."""
ONLINE_WITHIN_US = 10 * MINUTE_US
"""So long after it was made a load may still be on its way to the online store: until then nobody may rely on it."""
_RESERVED = frozenset({AS_OF, "event_timestamp", "created_timestamp"})


@dataclass(frozen=True)
class Attributes:
    """Columns of a table on their way to becoming features: say of which entity, and for how long they are valid."""

    table: str
    columns: tuple[str, ...]
    entity: Entity | None = None
    meaning: str = ""
    owner: str = ""
    cached_us: int | None = None

    def by(self, entity: Entity) -> Attributes:
        """One row of the table is about one such entity."""
        return replace(self, entity=entity)

    def means(self, meaning: str, *, owner: str = "") -> Attributes:
        """A sentence for the catalogue, and who answers for the features."""
        return replace(self, meaning=meaning, owner=owner)

    def cached_for(self, duration: str) -> Attributes:
        """A decision may go by what was read for another one so long before: for items that everybody is shown.

        A new load is seen that much later; ages and validity are told as ever.
        """
        return replace(self, cached_us=parse_duration(duration))

    def valid_for(self, duration: str, *, default: float = 0.0) -> tuple[AttributeFeature, ...]:
        """One feature a column, such as `terminal_floor_limit_cents`: a load counts that long after its moment."""
        return self._features(parse_duration(duration), default)

    def valid_forever(self, *, default: float = 0.0) -> tuple[AttributeFeature, ...]:
        """As `valid_for`, without an end."""
        return self._features(None, default)

    def __iter__(self) -> Iterator[AttributeFeature]:
        """Raises InvalidDeclaration: only how long they are valid makes features of them."""
        raise InvalidDeclaration(
            f'attributes of {self.table!r} do not say how long they are valid; end them with .valid_for("30d")'
        )

    def _features(self, valid_us: int | None, default: float) -> tuple[AttributeFeature, ...]:
        if self.entity is None:
            raise InvalidDeclaration(
                f"attributes of {self.table!r} say no entity; add .by(entity) before .valid_for(…)"
            )
        if not isinstance(default, int | float) or not math.isfinite(default):
            raise InvalidDeclaration(f"attributes of {self.table!r}: the default {default!r} is not a finite number")
        entity = self.entity
        return tuple(
            AttributeFeature(
                f"{entity.name}_{column}",
                entity,
                self.table,
                column,
                valid_us,
                default,
                self.meaning,
                self.owner,
                self.cached_us,
            )
            for column in self.columns
        )


def attributes(table: str, *columns: str) -> Attributes:
    """The table's columns, each a number or null."""
    for what, name in (("table", table), *(("column", column) for column in columns)):
        if not name.isidentifier() or name in _RESERVED:
            raise InvalidDeclaration(
                f"attributes of {table!r}: the {what} {name!r} is no plain name, or a reserved one"
            )
    if not columns:
        raise InvalidDeclaration(f"attributes of {table!r} name no column")
    if twice := sorted({name for name in columns if columns.count(name) > 1}):
        raise InvalidDeclaration(f"attributes of {table!r} name {', '.join(map(repr, twice))} twice")
    return Attributes(table, columns)


@dataclass(frozen=True)
class AttributeTable:
    """All declared columns of one table."""

    name: str
    entity: Entity
    valid_us: int | None
    """None for values that have no end."""
    features: tuple[AttributeFeature, ...]
    cached_us: int | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(feature.column for feature in self.features)

    @property
    def as_of(self) -> str:
        """Name of the stored moment of an entity's load, in microseconds, beside its values."""
        return f"{self.name}_as_of_us"

    def stored_name(self, column: str) -> str:
        """Name of a column in the online store, where a feature may have the column's own name."""
        return f"{self.name}_{column}"

    @property
    def stored_names(self) -> tuple[str, ...]:
        """Of the columns, then of the moment."""
        return (*map(self.stored_name, self.columns), self.as_of)

    def view(self, usecase: str) -> StoredView:
        """How the table lies in the store: its columns, then the moment of the load."""
        defaults = (*(feature.default for feature in self.features), math.nan)
        stored = [StoredFeature(name, default=d) for name, d in zip(self.stored_names, defaults, strict=True)]
        keys = tuple(JoinKey(key) for key in self.entity.keys)
        return StoredView(f"{usecase}_{self.name}", keys, tuple(stored), self.valid_us)

    def is_current(self, as_of_us: Column, at_us: Column) -> NDArray[np.bool_]:
        """Where loads of these moments, NaN for none, count at these times; shape (n,). Microseconds."""
        age_us = at_us - as_of_us
        # No load: NaN, of which every comparison is false.
        return (age_us >= 0) & (age_us <= (np.inf if self.valid_us is None else self.valid_us))

    def at(self, stored: Mapping[str, Column], at_us: Column) -> dict[str, Column]:
        """The features by name at these times, from what is stored of an entity in each row; shape (n,), NaN for null.

        `stored` by the names that the columns and the moment have in the store.
        """
        current = self.is_current(stored[self.as_of], at_us)
        found = {}
        for feature in self.features:
            values = stored[self.stored_name(feature.column)]
            found[feature.name] = np.where(current & ~np.isnan(values), values, feature.default)
        return found


def tables_of(features: Sequence[AttributeFeature]) -> tuple[AttributeTable, ...]:
    """The tables that these features are columns of. Raises InvalidDeclaration where a table contradicts itself."""
    found: dict[str, AttributeTable] = {}
    for feature in features:
        own = AttributeTable(feature.table, feature.entity, feature.valid_us, (), feature.cached_us)
        table = found.setdefault(feature.table, own)
        if replace(table, features=()) != own:
            raise InvalidDeclaration(
                f"{feature.name}: all columns of {feature.table!r} are about one entity, equally long valid and "
                "equally long cached; what differs belongs into a table of its own"
            )
        found[feature.table] = replace(table, features=(*table.features, feature))
    for table in found.values():
        other = next((t for t in found.values() if (t.entity, t.cached_us) == (table.entity, None)), table)
        if other.cached_us != table.cached_us:
            raise InvalidDeclaration(
                f"{table.name!r} and {other.name!r} are about one entity, so one command reads both: "
                "say .cached_for(…) of both or of neither"
            )
    return tuple(found.values())


_STATUSES = {
    StoredStatus.FRESH: FeatureStatus.FRESH,
    StoredStatus.STALE: FeatureStatus.STALE,
    StoredStatus.MISSING: FeatureStatus.MISSING,
    StoredStatus.REFUSED: FeatureStatus.UNAVAILABLE,
}


class Loaded(NamedTuple):
    """What is known from one table of one entity: values by feature, defaults unless the status is fresh.

    `age_ms` is NaN where nothing is loaded, or nothing that can be read.
    """

    table: AttributeTable
    status: FeatureStatus
    values: Mapping[str, float]
    age_ms: float


@dataclass(frozen=True)
class AttributeRead:
    """What a decision reads of one entity: all tables about it, in one command."""

    usecase: str
    entity: Entity
    tables: tuple[AttributeTable, ...]

    @property
    def cached_us(self) -> int | None:
        """How long what was read may serve other decisions, the shortest of its tables; None where it may not."""
        return min((table.cached_us for table in self.tables if table.cached_us is not None), default=None)

    @cached_property
    def plan(self) -> StoredPlan:
        return StoredPlan([table.view(self.usecase) for table in self.tables])

    def loaded(self, columns: StoredColumns) -> Iterator[Loaded]:
        """What the one row of an answer to `request` says of each table."""
        place = 0
        for number, table in enumerate(self.tables):
            status, age_ms = _STATUSES[StoredStatus(columns.status[0, number])], float(columns.age_ms[0, number])
            values = columns.values[0, place : place + len(table.features)].tolist()
            if age_ms < 0:
                # Loaded for later: training, too, knows nothing of it yet.
                status, values = FeatureStatus.STALE, [feature.default for feature in table.features]
            yield Loaded(table, status, dict(zip((f.name for f in table.features), values, strict=True)), age_ms)
            place += len(table.features) + 1

    def request(self, event: Event) -> StoredRequest:
        """Asks about the event's entity as of the event's own time."""
        names = zip(self.entity.keys, self.entity.request_keys, strict=True)
        return StoredRequest({key: [str(getattr(event, name))] for key, name in names}, event.event_time_us)


def reads_of(usecase: str, tables: Sequence[AttributeTable]) -> tuple[AttributeRead, ...]:
    """One read for each entity that has tables."""
    entities = dict.fromkeys(table.entity for table in tables)
    return tuple(AttributeRead(usecase, e, tuple(table for table in tables if table.entity == e)) for e in entities)


@dataclass(frozen=True)
class AttributeRow:
    """One entity's values in the order of the table's columns, None for null, as of a moment."""

    key: tuple[str, ...]
    """The parts of the entity's id."""
    as_of_us: int
    values: tuple[float | None, ...]

    @property
    def entity_id(self) -> str:
        return join_id(self.key)


class AttributeLoad(NamedTuple):
    """A row as the lake keeps it: what was loaded, and when."""

    row: AttributeRow
    loaded_us: int
