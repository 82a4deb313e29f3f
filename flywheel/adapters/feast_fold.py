"""The body of the on-demand feature view: stored states, loaded attributes and a request in, every feature out.

Feast's registry keeps only the name of the use case; what is computed is found in the declaration, here as in serving.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from flywheel.adapters.feast_layout import edge_feature, state_feature
from flywheel.kernel import catalog
from flywheel.kernel.features import Column, join_id
from flywheel.kernel.fields import REQUEST, REQUEST_TIME, kind_of, numeric_fields
from flywheel.kernel.fold import Reading
from flywheel.kernel.hydration import opened
from flywheel.kernel.plan import FeaturePlan, compile_plan
from flywheel.kernel.ports import Stored
from flywheel.kernel.rows import event_hash, row_about
from flywheel.kernel.state import ForeignState
from flywheel.kernel.vector import complete

EVENT_ID, EVENT_TIME = "request_event_id", "request_event_time_us"


def request_field(name: str) -> str:
    """Name of a field of the request in Feast, where a feature may have the field's own name."""
    return f"request_{name}"


def request_fields(plan: FeaturePlan) -> dict[str, type]:
    """Types of the request's fields that features are computed from, by name; those of the views' keys are among them.

    The request's own event belongs to its windows, so every field that a window looks at is asked for.
    """
    request = plan.usecase.request
    needed = {*plan.fields_of(request), *numeric_fields(request)}
    return {name: kind_of(request, name) or str for name in request.model_fields if name in needed}


def features_of(usecase: str, inputs: Mapping[str, Sequence[Any]]) -> dict[str, list[float]]:
    """Lists of every declared feature's values, one for each row of the input lists.

    A state that is none of ours, as Feast makes them up to see what comes out, gives NaN; an absent one the defaults.
    """
    plan, readings = _compiled(usecase)
    rows = range(len(inputs[EVENT_ID]))
    names = numeric_fields(plan.usecase.request)
    columns = {REQUEST + name: np.array([float(inputs[request_field(name)][row]) for row in rows]) for name in names}
    columns[REQUEST_TIME] = np.array([float(inputs[EVENT_TIME][row]) for row in rows])
    for reading in readings:
        values = np.array([_values(plan, reading, inputs, row) for row in rows])
        columns |= {feature.name: values[:, index] for index, feature in enumerate(reading.view.features)}
    for table in plan.usecase.attribute_tables:
        loaded = {name: _numbers(inputs[name]) for name in table.stored_names}
        columns |= table.at(loaded, columns[REQUEST_TIME])
    with np.errstate(all="ignore"):
        known = complete(plan.usecase, columns)
    return {name: known[name].tolist() for name in plan.usecase.feature_names}


def _values(plan: FeaturePlan, reading: Reading, inputs: Mapping[str, Sequence[Any]], row: int) -> list[float]:
    view, request = reading.view, plan.usecase.request
    name = view.entity.name
    at_us, tie = int(inputs[EVENT_TIME][row]), event_hash(request.event_name, str(inputs[EVENT_ID][row]))
    fields = {field: inputs[request_field(field)][row] for field in view.fields_of(request)}
    entity_id = join_id([str(inputs[request_field(key)][row]) for key in view.entity.request_keys])
    own = row_about(view, request, fields, entity_id, at_us, tie)
    try:
        state, arrived = opened(view, Stored(inputs[state_feature(name)][row], inputs[edge_feature(name)][row]))
    except ForeignState:
        return [float("nan")] * len(view.features)
    return [float(value) for value in reading.values(state, arrived, at_us, own=own, own_tie=tie)]


def _numbers(values: Sequence[float | None]) -> Column:
    """NaN where there is none."""
    return np.array([np.nan if value is None else value for value in values], np.float64)


@cache
def _compiled(usecase: str) -> tuple[FeaturePlan, tuple[Reading, ...]]:
    plan = compile_plan(catalog.load(usecase))
    return plan, tuple(Reading(view) for view in plan.views)
