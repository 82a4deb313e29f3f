"""Compares the attributes of sampled decisions with the loads in the lake."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from flywheel.adapters.attribute_loads import loads_of
from flywheel.adapters.duckdb_lake import Archived
from flywheel.contracts.decisions import DecisionLogged, FeatureStatus
from flywheel.contracts.events import to_us
from flywheel.contracts.parity import MismatchExample
from flywheel.kernel.attribute_recomputation import recompute_attributes
from flywheel.kernel.attributes import AttributeLoad, AttributeTable
from flywheel.kernel.declaration import UseCase
from flywheel.kernel.erasure import Erasures, named_by
from flywheel.kernel.features import split_id
from flywheel.kernel.tally import Tally

Loads = Mapping[str, Sequence[AttributeLoad]]
"""All loads of one table, by entity."""


class AttributeCheck:
    """Looks up attributes of decisions; `lake` is that of the use case. Reads nothing where none are declared."""

    def __init__(self, usecase: UseCase, lake: Path) -> None:
        self._usecase = usecase
        self._lake = lake

    def read(self, archived: Mapping[str, Archived], decisions: Sequence[DecisionLogged]) -> list[Loads]:
        """What is loaded of the entities that the decisions are about, table by table. Raises Unavailable."""
        return [
            loads_of(self._lake, table, {_about(table, archived, logged) for logged in decisions})
            for table in self._usecase.attribute_tables
        ]

    def compare(
        self,
        archived: Mapping[str, Archived],
        decisions: Sequence[DecisionLogged],
        loads: Sequence[Loads],
        erasures: Erasures,
        tally: Tally,
    ) -> None:
        """Counts every attribute of the decisions; of whoever was erased nothing is decided upon.

        `loads` as `read` gave them.
        """
        for table, found in zip(self._usecase.attribute_tables, loads, strict=True):
            for logged in decisions:
                entity_id = _about(table, archived, logged)
                known = recompute_attributes(
                    table, found.get(entity_id, ()), to_us(logged.event_time), to_us(logged.decided_at)
                )
                _count(table, logged, None if self._is_erased(table, entity_id, erasures) else known, tally)

    def _is_erased(self, table: AttributeTable, entity_id: str, erasures: Erasures) -> bool:
        """Whether the entity was, or another that is a part of it: their loads are gone."""
        keys = table.entity.keys
        return erasures.covers_event(
            named_by(self._usecase, keys), dict(zip(keys, split_id(entity_id), strict=True)), 0
        )


def _about(table: AttributeTable, archived: Mapping[str, Archived], logged: DecisionLogged) -> str:
    return archived[logged.event_id].entity_ids[table.entity.name]


def _count(table: AttributeTable, logged: DecisionLogged, known: Mapping[str, float] | None, tally: Tally) -> None:
    status = logged.feature_status.get(table.name, FeatureStatus.UNAVAILABLE)
    if status is FeatureStatus.UNAVAILABLE:
        return
    served = dict(zip(logged.feature_names, logged.features, strict=True))
    for feature in table.features:
        if feature.name not in served:
            continue
        if known is None:
            tally.undecidable += 1
            continue
        example = MismatchExample(
            event_id=logged.event_id,
            decided_at=logged.decided_at,
            online=served[feature.name],
            offline=known[feature.name],
        )
        tally.compare(feature.name, example, stale=status is FeatureStatus.STALE)
