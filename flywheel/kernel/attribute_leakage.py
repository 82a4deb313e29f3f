"""Whether a training row knows more of an entity's attributes than its request did: the rule itself, load by load.

Slow on purpose, and apart from the join that made the rows, so that what it finds is found independently.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from flywheel.kernel.attributes import ONLINE_WITHIN_US, AttributeLoad, AttributeTable
from flywheel.kernel.leakage import Mismatch, Request


def known_attributes(
    table: AttributeTable, loads: Iterable[AttributeLoad], request: Request, until_us: int
) -> dict[str, float]:
    """The table's features of one entity by name, from all its `loads`, as they were known at the request.

    Known is the newest load that was surely online when the request arrived; to one that was backfilled, the newest as
    of its time of all that was loaded by `until_us`.
    """
    if request.backfilled:
        seen = [load for load in loads if load.row.as_of_us <= request.at_us and load.loaded_us <= until_us]
    else:
        seen = [load for load in loads if load.loaded_us + ONLINE_WITHIN_US <= request.arrived_us]
    known = {feature.name: feature.default for feature in table.features}
    if not seen:
        return known
    newest = max(seen, key=lambda load: (load.row.as_of_us, load.loaded_us)).row
    age_us = request.at_us - newest.as_of_us
    if age_us >= 0 and (table.valid_us is None or age_us <= table.valid_us):
        for feature, value in zip(table.features, newest.values, strict=True):
            if value is not None and not math.isnan(value):
                known[feature.name] = value
    return known


def attribute_mismatches(
    table: AttributeTable,
    loads: Iterable[AttributeLoad],
    request: Request,
    trained: Mapping[str, float],
    until_us: int,
) -> list[Mismatch]:
    """The features of one entity whose value in the training row, `trained` by name, differs from what was known."""
    return [
        Mismatch(name, request.event_id, request.at_us, trained[name], value)
        for name, value in known_attributes(table, loads, request, until_us).items()
        # Loaded numbers are copied, never computed with.
        if trained[name] != value
    ]
