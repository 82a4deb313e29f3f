"""Loads a table of attributes from a file: into the lake, for training, and from there online, for decisions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    ValidationError,
    create_model,
)

from flywheel.adapters.attribute_lake import AttributeLake, LoadsUnreadable
from flywheel.adapters.kafka_erasures import KafkaErasures
from flywheel.adapters.kafka_topics import create_topics
from flywheel.adapters.lake_lock import writing
from flywheel.adapters.point_in_time import JoinLimits
from flywheel.adapters.redis_store import RedisFeatureWriter
from flywheel.adapters.telling import Tell
from flywheel.client.errors import ClientError
from flywheel.client.rows import Row, read_rows
from flywheel.contracts.events import EPOCH, to_us
from flywheel.contracts.settings import PlatformSettings
from flywheel.contracts.topics import erasures_topic
from flywheel.kernel.attributes import AS_OF, AttributeRow, AttributeTable
from flywheel.kernel.declaration import UseCase
from flywheel.kernel.erasure import EraseKey, Erasures, named_by
from flywheel.kernel.plan import compile_plan
from flywheel.kernel.ports import Unavailable

_TELL_EVERY = 100_000
_EVER_US = 0
_EPOCH = f"{EPOCH:%Y-%m-%dT%H:%M:%SZ}"


@dataclass(frozen=True)
class LoadReport:
    """What a load did: rows kept, rows left out because their entities were erased, entities now online."""

    table: str
    rows: int
    erased: int
    online: int

    def __str__(self) -> str:
        again = "who is there anew needs an as_of after the erasure in the row"
        left_out = f", {self.erased:,} of erased entities left out ({again})" if self.erased else ""
        rows = f"{self.rows:,} row{'' if self.rows == 1 else 's'}"
        return f"{self.table}: {rows} loaded{left_out}; the newest of {self.online:,} entities are online"


class FileRow(NamedTuple):
    """A row of a file; `dated` if the file itself says of which moment it is."""

    row: AttributeRow
    dated: bool


def table_named(usecase: UseCase, name: str) -> AttributeTable:
    """The declared table. Raises ClientError when there is none."""
    tables = {table.name: table for table in usecase.attribute_tables}
    if name not in tables:
        there = f"its tables are {', '.join(tables)}" if tables else "it declares no attributes"
        raise ClientError(f"use case {usecase.name!r} has no table {name!r}; {there}")
    return tables[name]


def rows_in(path: Path, table: AttributeTable, as_of: datetime, now: datetime, tell: Tell) -> list[FileRow]:
    """The file's rows, all of them checked: nothing is loaded of a file with a wrong row.

    `as_of` is the moment of rows that do not say one. Raises ClientError that names row, reason and way out.
    """
    schema, found = _schema(table), list[FileRow]()
    places: dict[tuple[str, int], int] = {}
    for row in read_rows(path, schema, table.name):
        checked = _checked(path, row, schema)
        said = getattr(checked, AS_OF)
        moment = said or as_of
        if fault := _wrong(moment, now):
            raise ClientError(f"{path.name} row {row.number}: {moment.isoformat()} {fault}")
        key = tuple(getattr(checked, name) for name in table.entity.keys)
        one = AttributeRow(key, to_us(moment), tuple(getattr(checked, name) for name in table.columns))
        first = places.setdefault((one.entity_id, one.as_of_us), row.number)
        if first != row.number:
            raise ClientError(
                f"{path.name} row {row.number}: {' '.join(key)} is there already, in row {first}, as of the same "
                "moment; keep one of them"
            )
        found.append(FileRow(one, dated=said is not None))
        if len(found) % _TELL_EVERY == 0:
            tell(f"{path.name}: {len(found):,} rows read")
    if not found:
        raise ClientError(f"{path.name} has no rows")
    return found


def load(
    usecase: UseCase, table: AttributeTable, rows: Sequence[FileRow], settings: PlatformSettings, tell: Tell
) -> LoadReport:
    """Keeps the rows in the lake, then brings the newest of their entities online. Raises ClientError.

    Of whoever was ever erased only rows count that say themselves that they are of a moment after the erasure.
    """
    directory = settings.lake_dir / usecase.name
    lake = AttributeLake(
        directory, JoinLimits(settings.attributes_memory_mib, settings.data_dir / "scratch" / "attributes")
    )
    kept = False
    try:
        # Nobody is erased meanwhile: what was read of them would come online after they went.
        with (
            writing(directory),
            lake.loading(),
            closing(RedisFeatureWriter(settings.redis_url, compile_plan(usecase))) as writer,
        ):
            wanted = list(_not_erased(usecase, table, rows, _erasures(usecase, settings)))
            file = lake.append(table, wanted, datetime.now(UTC))
            kept = True
            online = lake.publish(table, writer, tell, of=file)
    except (Unavailable, LoadsUnreadable, ValueError, OSError) as error:
        where = "kept in the lake, but not all of it online" if kept else "not loaded"
        raise ClientError(f"{table.name} is {where}: {error}; then give the command again") from error
    return LoadReport(table.name, len(wanted), len(rows) - len(wanted), online)


def _erasures(usecase: UseCase, settings: PlatformSettings) -> Erasures:
    create_topics(settings.kafka_bootstrap, [erasures_topic(usecase.name)])
    key = EraseKey(settings.erasure_key.encode(), usecase.name)
    with closing(KafkaErasures(settings.kafka_bootstrap, key)) as log:
        return log.current()


def _not_erased(
    usecase: UseCase, table: AttributeTable, rows: Sequence[FileRow], erasures: Erasures
) -> Iterator[AttributeRow]:
    keys = table.entity.keys
    named = named_by(usecase, keys)
    for row, dated in rows:
        # A moment that the file does not say is that of the command: the same file, given again, would seem newer.
        known_us = row.as_of_us if dated else _EVER_US
        if not erasures.covers_event(named, dict(zip(keys, row.key, strict=True)), known_us):
            yield row


def _wrong(as_of: datetime, now: datetime) -> str | None:
    """What is wrong with a load of that moment."""
    if as_of > now:
        return "has not come yet; a load is as of a moment that has"
    if as_of < EPOCH:
        return f"is before {_EPOCH}, where the online store's moments begin; say {_EPOCH} for what always was so"
    return None


def _no_flag(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("a flag is no number; write 1 or 0")
    return value


def _schema(table: AttributeTable) -> type[BaseModel]:
    """What a row of the file must be."""
    fields: dict[str, Any] = {key: (Annotated[str, Field(min_length=1)], ...) for key in table.entity.keys}
    fields |= {column: (Annotated[FiniteFloat | None, BeforeValidator(_no_flag)], ...) for column in table.columns}
    fields[AS_OF] = (AwareDatetime | None, None)
    config = ConfigDict(extra="forbid", coerce_numbers_to_str=True)
    return create_model(table.name, __config__=config, **fields)


def _checked(path: Path, row: Row, schema: type[BaseModel]) -> BaseModel:
    if row.unreadable:
        raise ClientError(f"{path.name} row {row.number}: {row.unreadable}; nothing was loaded")
    try:
        return schema.model_validate(row.fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"])) or "the row"
        raise ClientError(
            f"{path.name} row {row.number}: {field}: {first['msg'][:1].lower()}{first['msg'][1:]}; nothing was loaded, "
            f"mend the row and load the file again (its fields are {', '.join(schema.model_fields)})"
        ) from None
