"""Attributes of a decision looked up again, as of its moment, in the loads.

When a load was made is known, but not when it came online: a value that depends on one of about then is not decided
upon.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from flywheel.kernel.attributes import AttributeLoad, AttributeTable
from flywheel.kernel.durations import MINUTE_US

ONLINE_WITHIN_US = 10 * MINUTE_US
"""So long after it was made a load may still be on its way to the online store."""


def recompute_attributes(
    table: AttributeTable, loads: Iterable[AttributeLoad], at_us: int, decided_us: int
) -> dict[str, float] | None:
    """The table's features of one entity at `at_us` by name, from all its `loads`; None where one of them is in doubt.

    In doubt is the newest load as of `at_us` if it was made less than `ONLINE_WITHIN_US` before the decision, or after.
    """
    newest = max(
        (load for load in loads if load.row.as_of_us <= at_us),
        key=lambda load: (load.row.as_of_us, load.loaded_us),
        default=None,
    )
    if newest is None:
        return {feature.name: feature.default for feature in table.features}
    if newest.loaded_us > decided_us - ONLINE_WITHIN_US:
        return None
    row = np.array([(*newest.row.values, newest.row.as_of_us)], np.float64)
    stored = dict(zip(table.stored_names, row.T, strict=True))
    return {name: float(values[0]) for name, values in table.at(stored, np.array([float(at_us)])).items()}
