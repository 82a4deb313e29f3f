"""The body of the on-demand feature view: stored states and a request in, every declared feature out.

Feast's registry keeps only the name of the use case; what is computed is found in the declaration, here as in serving.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from flywheel.adapters.feast_layout import state_feature
from flywheel.kernel import catalog
from flywheel.kernel.declaration import UseCase
from flywheel.kernel.plan import FeaturePlan, TileView, compile_plan
from flywheel.kernel.tiles import EntityState, ForeignState, OwnEvent, fold, id_hash
from flywheel.kernel.vector import complete

EVENT_ID, EVENT_TIME = "request_event_id", "request_event_time_us"


def request_field(name: str) -> str:
    """Name of a numeric field of the request in Feast, where a feature may have the field's own name."""
    return f"request_{name}"


def numeric_fields(usecase: UseCase) -> dict[str, Any]:
    """Types, int or float, of the request's numeric fields by name."""
    fields = usecase.request.model_fields.items()
    return {name: info.annotation for name, info in fields if info.annotation in (int, float)}


def features_of(usecase: str, inputs: Mapping[str, Sequence[Any]]) -> dict[str, list[float]]:
    """Lists of every declared feature's values, one for each row of the input lists.

    A state that is none of ours, as Feast makes them up to see what comes out, gives NaN; an absent one the defaults.
    """
    plan = _plan(usecase)
    rows = range(len(inputs[EVENT_ID]))
    names = numeric_fields(plan.usecase)
    columns = {f"request.{name}": np.array([float(inputs[request_field(name)][row]) for row in rows]) for name in names}
    columns["request.event_time_us"] = np.array([float(inputs[EVENT_TIME][row]) for row in rows])
    for view in plan.views:
        states = inputs[state_feature(view.entity.name)]
        values = np.array(
            [_values(view, states[row], _own(plan, inputs, row), int(inputs[EVENT_TIME][row])) for row in rows]
        )
        columns |= {feature.name: values[:, index] for index, feature in enumerate(view.features)}
    with np.errstate(all="ignore"):
        known = complete(plan.usecase, columns)
    return {name: known[name].tolist() for name in plan.usecase.feature_names}


def _values(view: TileView, raw: bytes | None, own: OwnEvent, at_us: int) -> list[float]:
    try:
        state = None if raw is None else EntityState.unpack(view, raw)
    except ForeignState:
        return [float("nan")] * len(view.features)
    return list(fold(view, state, at_us, own))


def _own(plan: FeaturePlan, inputs: Mapping[str, Sequence[Any]], row: int) -> OwnEvent:
    fields = {name: float(inputs[request_field(name)][row]) for name in numeric_fields(plan.usecase)}
    return OwnEvent(plan.usecase.request.event_name, id_hash(str(inputs[EVENT_ID][row])), fields)


@cache
def _plan(usecase: str) -> FeaturePlan:
    return compile_plan(catalog.load(usecase))
