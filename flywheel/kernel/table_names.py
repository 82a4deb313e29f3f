"""Names that attribute tables make: of views in the store, of columns in the store, the lake and Feast's one list.

Neither Feast nor SQL tells capitals from small letters, so nor does this.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from flywheel.contracts.events import Event
from flywheel.kernel.attributes import AttributeTable
from flywheel.kernel.features import Entity, InvalidDeclaration


def check_names(
    usecase: str,
    tables: Sequence[AttributeTable],
    entities: Sequence[Entity],
    request: type[Event],
    features: Sequence[str],
) -> None:
    """Raises InvalidDeclaration, naming both, where a table's view or column has the name of another, or of something
    else that the store, the lake or Feast has beside it."""
    views = _meanings(_views(usecase, entities))
    columns = _meanings(_columns(entities, request, features))
    for table in tables:
        mine = f"the table {table.name!r}"
        _take(columns, usecase, table.as_of, f"the moment of {mine}")
        for column in table.columns:
            _take(columns, usecase, table.stored_name(column), f"the column {column!r} of {mine}")
        _take(views, usecase, table.view(usecase).name, mine)


def _take(meanings: dict[str, str], usecase: str, name: str, meaning: str) -> None:
    there = meanings.get(name.lower())
    if there is not None:
        raise InvalidDeclaration(
            f"{usecase}: {meaning} would be stored as {name!r}, which is {there}; give table or column another name"
        )
    meanings[name.lower()] = meaning


def _meanings(found: Iterator[tuple[str, str]]) -> dict[str, str]:
    return {name.lower(): meaning for name, meaning in found}


def _views(usecase: str, entities: Sequence[Entity]) -> Iterator[tuple[str, str]]:
    yield f"{usecase}_features", "the view of all features"
    for entity in entities:
        yield f"{usecase}_{entity.name}_tiles", f"the view of the windows of {entity.name!r}"
        yield f"{usecase}_{entity.name}_history", f"the view of the history of {entity.name!r}"


def _columns(entities: Sequence[Entity], request: type[Event], features: Sequence[str]) -> Iterator[tuple[str, str]]:
    for name in ("event_timestamp", "created_timestamp"):
        yield name, "a moment of each load"
    for field in (*request.model_fields, "event_time_us"):
        yield f"request_{field}", f"the field {field!r} of the request"
    for name in features:
        yield name, "a feature"
    for entity in entities:
        yield f"{entity.name}_state", f"the tiles of {entity.name!r}"
        yield f"{entity.name}_edge", f"the edge of {entity.name!r}"
        for key in entity.keys:
            yield key, f"a key of {entity.name!r}"
