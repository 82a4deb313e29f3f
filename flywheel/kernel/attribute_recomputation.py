"""Attributes of a decision looked up again, as of its moment, in the loads.

When a load was made is known, but not when it came online: a value that depends on one of about then is not decided
upon.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from flywheel.kernel.attributes import ONLINE_WITHIN_US, AttributeLoad, AttributeTable


def recompute_attributes(
    table: AttributeTable, loads: Sequence[AttributeLoad], at_us: int, decided_us: int
) -> dict[str, float] | None:
    """The table's features of one entity at `at_us` by name, from all its `loads`; None where one of them is in doubt.

    In doubt is a load that was made within `ONLINE_WITHIN_US` of the decision, if it is newer than those before.
    """
    online = [load for load in loads if load.loaded_us <= decided_us - ONLINE_WITHIN_US]
    doubtful = [load for load in loads if abs(load.loaded_us - decided_us) < ONLINE_WITHIN_US]
    newest = max(online, key=_version, default=None)
    if any(newest is None or _version(load) > _version(newest) for load in doubtful):
        return None
    if newest is None:
        return {feature.name: feature.default for feature in table.features}
    row = np.array([(*newest.row.values, newest.row.as_of_us)], np.float64)
    stored = dict(zip(table.stored_names, row.T, strict=True))
    return {name: float(values[0]) for name, values in table.at(stored, np.array([float(at_us)])).items()}


def _version(load: AttributeLoad) -> tuple[int, int]:
    return load.row.as_of_us, load.loaded_us
