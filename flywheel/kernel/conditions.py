"""Which events a feature counts: conditions on their own fields, declared as data so that they can be shown.

declined = where("outcome").equals("declined")
count(Payment).only(declined, where("amount_cents").at_least(10_000))
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flywheel.contracts.events import Event
from flywheel.kernel.fields import kind_of

Scalar = str | int | float | bool
Values = NDArray[Any]


class Operator(StrEnum):
    """How a field is compared."""

    EQUALS = "="
    DIFFERS = "!="
    AT_LEAST = ">="
    BELOW = "<"


@dataclass(frozen=True)
class Condition:
    """One comparison of an event's field with a value; an absent field fulfils none."""

    field: str
    operator: Operator
    value: Scalar

    def __str__(self) -> str:
        return f"{self.field} {self.operator} {self.value!r}"

    def holds(self, columns: Mapping[str, Values]) -> NDArray[np.bool_]:
        """For each event, whether its field fulfils the condition; columns of equal length by field name."""
        values = columns[self.field]
        # None and NaN, which stand for an absent field, are the values that differ from themselves or are None.
        known = np.array([value is not None and value == value for value in values.tolist()], np.bool_)
        met = np.zeros(len(values), np.bool_)
        present = values[known]
        match self.operator:
            case Operator.EQUALS:
                met[known] = present == self.value
            case Operator.DIFFERS:
                met[known] = present != self.value
            case Operator.AT_LEAST:
                met[known] = present >= self.value
            case Operator.BELOW:
                met[known] = present < self.value
        return met

    def fault(self, event: type[Event]) -> str | None:
        """Why the condition cannot be put to that event, in one sentence; None when it can."""
        kind = kind_of(event, self.field)
        if kind is None:
            return f"{event.__name__} has no field {self.field!r}; its fields are {', '.join(event.model_fields)}"
        wanted = (int, float) if kind in (int, float) else (kind,)
        if not isinstance(self.value, wanted) or isinstance(self.value, bool) != (kind is bool):
            return f"{event.__name__}.{self.field} is of type {kind.__name__}, {self.value!r} is not"
        if self.operator in (Operator.AT_LEAST, Operator.BELOW) and kind not in (int, float):
            return f"{event.__name__}.{self.field} is of type {kind.__name__}, which has no order"
        return None


@dataclass(frozen=True)
class where:
    """Begins a condition on the named field."""

    field: str

    def equals(self, value: Scalar) -> Condition:
        """The field is that value."""
        return Condition(self.field, Operator.EQUALS, value)

    def differs_from(self, value: Scalar) -> Condition:
        """The field is there and is not that value."""
        return Condition(self.field, Operator.DIFFERS, value)

    def at_least(self, value: float) -> Condition:
        """The field is that number or more."""
        return Condition(self.field, Operator.AT_LEAST, value)

    def below(self, value: float) -> Condition:
        """The field is less than that number."""
        return Condition(self.field, Operator.BELOW, value)
