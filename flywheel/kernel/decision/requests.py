"""What a decision is asked with, and how it goes through the pipeline."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from flywheel.contracts.decisions import Fallback, Step
from flywheel.contracts.models import Role
from flywheel.kernel.hydration import Subject
from flywheel.kernel.lineup import LoadedModel
from flywheel.kernel.timing import Allowance


class DecisionRequest(NamedTuple):
    """One decision that is asked for. Times are on the steady clock, in seconds."""

    subject: bytes
    """The request event as JSON."""
    request_id: str = ""
    """Made when empty."""
    deadline_s: float = math.inf
    arrived_s: float | None = None
    """When its first bytes were read; None for just now."""
    criticality: str = ""
    """What its caller asked for; empty for what the use case declares."""
    candidates: Sequence[str] = ()
    """Values of the declared candidate field, where the subjects to be judged differ in that alone."""
    keep: int = 0
    """How many candidates to show at most; 0 for as many as are declared."""


class Refused(NamedTuple):
    """A request without a decision, and why."""

    request_id: str
    error: Exception
    """InvalidSubject, OutOfTime, or whatever nobody foresaw."""


class Case:
    """A request on its way: what the stages found, each for those after it."""

    __slots__ = (
        "allowance",
        "arm",
        "criticality",
        "dropped",
        "left",
        "model",
        "place",
        "propensity",
        "request",
        "request_id",
        "run_s",
        "step",
        "subject",
        "unit",
        "why",
    )

    def __init__(
        self, request: DecisionRequest, request_id: str, subject: Subject, unit: str, allowance: Allowance
    ) -> None:
        self.request = request
        self.request_id = request_id
        self.subject = subject
        self.unit = unit
        """What traffic is split by."""
        self.allowance = allowance
        self.criticality = request.criticality
        """How much it matters, by declaration and caller."""
        self.place = 0
        """Where it stood among the requests it came with."""
        self.begin()

    def begin(self) -> None:
        """What the stages find is not known yet, or no more: they begin anew."""
        self.arm: Role = Role.CHAMPION
        self.propensity = 1.0
        self.model: LoadedModel | None = None
        """The model of the arm, whether or not it gave the score."""
        self.run_s: float | None = None
        """What its model took, where other models ran for others in the same stage."""
        self.step = Step.MODEL
        """The step of the ladder that it stands on."""
        self.why = Fallback.NONE
        self.left: NDArray[np.intp] | None = None
        """Which of its rows the filters left, in their order; None for all."""
        self.dropped: Mapping[str, int] = {}
        """How many rows they dropped, by reason."""

    @property
    def rows(self) -> int:
        """How many of its rows are left."""
        return self.subject.rows if self.left is None else len(self.left)
