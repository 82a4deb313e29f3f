"""What a load test asks, when, what is done to the stack meanwhile, and what must come out: one TOML file each."""

from __future__ import annotations

import operator
import re
import tomllib
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from loadtests.failures import CannotTest

SCENARIOS = Path(__file__).resolve().parent / "scenarios"

Share = Annotated[float, Field(ge=0, le=1)]
_BOUND = re.compile(r"(<=|>=|==|<|>)\s*(-?\d+(?:\.\d+)?)")
_COMPARISONS = {"<=": operator.le, ">=": operator.ge, "==": operator.eq, "<": operator.lt, ">": operator.gt}


class Kind(StrEnum):
    """Whom requests go to."""

    DECIDE = "decide"
    """`Decide` of serving, over gRPC."""
    INGEST = "ingest"
    """Events to ingest, over HTTP."""


class Arrivals(StrEnum):
    """How requests follow each other."""

    POISSON = "poisson"
    CONSTANT = "constant"
    RECORDED = "recorded"
    """As in the recording, or in the use case's world, sped up or slowed down to the phase's rate."""


class Action(StrEnum):
    """What is done to a process."""

    STOP = "stop"
    """It stands still (SIGSTOP) for a while."""
    KILL = "kill"
    """It dies (SIGKILL); whoever watches over it starts it again."""


class _Declared(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Traffic(_Declared):
    """One kind of request."""

    name: str
    kind: Kind = Kind.DECIDE
    share: float = Field(default=1.0, gt=0)
    """How many come for each of the phase's rate: 1 for what the rate is about, 0.1 for a tenth beside it."""
    skew: float = Field(default=0.0, ge=0, le=3)
    """Zipf's exponent of how often each entity is asked about; 0: as often as in the world."""
    cold_share: Share = 0.0
    """Requests about entities that nobody has heard of."""
    within_ms: float | None = Field(default=None, gt=0)
    """Answers later than this do not count as goodput; without it the use case's budget (ingest: a second)."""
    timeout_ms: int = Field(default=1_000, gt=0)
    """How long callers of serving wait, as their calls say."""
    batch: int = Field(default=1, ge=1, le=1_000)
    """Events a request to ingest."""
    usecase: str | None = None
    """Another use case than the stack's; with the address of what serves it."""
    address: str | None = None
    """`host:port` of serving, or the URL of ingest; without it the stack's."""
    clock: str | None = None
    """URL of the ingest that tells the stream's present; without it the stack's, or that of the address."""
    seed: int = Field(default=1, ge=0)
    """Of moments and entities; the same seed asks the same again."""
    recording: Path | None = None
    """Requests of your own (CSV, JSON Lines, Parquet with the request event's fields) instead of the world's."""


class Phase(_Declared):
    """A stretch of time with one rate; with several shares, one stretch for each, which make the report's curve."""

    name: str
    seconds: float = Field(gt=0)
    per_s: float | None = Field(default=None, gt=0)
    """Requests a second."""
    of_capacity: float | tuple[float, ...] | None = None
    """The same as a share of what callers in a ring get, which is measured before."""
    arrivals: Arrivals = Arrivals.POISSON
    pause_s: float = Field(default=0.0, ge=0)
    """Nothing is sent for so long before each stretch."""
    measured: bool = True
    """Whether the report shows it; a warm-up is not."""

    @model_validator(mode="after")
    def _has_one_rate(self) -> Self:
        if (self.per_s is None) == (self.of_capacity is None):
            raise ValueError(f"phase {self.name!r} needs either per_s or of_capacity")
        return self


class Fault(_Declared):
    """Something that is done to a process of the stack while load goes on."""

    process: str
    """As `make status` calls it; of what runs several times, the first."""
    action: Action
    phase: str
    at_s: float = Field(default=0.0, ge=0)
    """After the phase's begin."""
    for_s: float = Field(default=0.0, ge=0)
    """How long a stopped process stands still."""
    child: bool = False
    """Whether it is done to one of the process's own children (a worker) instead of all of it."""


class Objective(_Declared):
    """What a measure must be in a phase."""

    name: str
    measure: str
    bound: str = Field(pattern=_BOUND.pattern)
    """Such as `<= 50`."""
    phase: str
    traffic: str | None = None
    """Without one the first."""
    process: str | None = None
    """Of which the measure is, where it is one of a process."""

    def holds(self, value: float) -> bool:
        """Whether a value is within the bound."""
        match = _BOUND.fullmatch(self.bound)
        assert match is not None
        return bool(_COMPARISONS[match[1]](value, float(match[2])))


class Scenario(_Declared):
    """A whole load test."""

    title: str
    about: str
    traffic: tuple[Traffic, ...] = Field(min_length=1)
    phase: tuple[Phase, ...] = Field(min_length=1)
    fault: tuple[Fault, ...] = ()
    objective: tuple[Objective, ...] = ()

    @model_validator(mode="after")
    def _refers_to_what_there_is(self) -> Self:
        phases = {name for phase in self.phase for name in stretch_names(phase)}
        traffics = {traffic.name for traffic in self.traffic}
        if len(traffics) < len(self.traffic):
            raise ValueError("two traffics have one name")
        wanted = {fault.phase for fault in self.fault} | {objective.phase for objective in self.objective}
        if unknown := sorted(wanted - phases):
            raise ValueError(f"there is no phase {unknown[0]!r}; there are: {', '.join(sorted(phases))}")
        named = {each.traffic for each in self.objective if each.traffic}
        if unknown := sorted(named - traffics):
            raise ValueError(f"there is no traffic {unknown[0]!r}; there are: {', '.join(sorted(traffics))}")
        return self

    @property
    def needs_capacity(self) -> bool:
        """Whether rates are shares of a capacity."""
        return any(phase.of_capacity is not None for phase in self.phase)


def stretch_names(phase: Phase) -> list[str]:
    """What the stretches of a phase are called.

    >>> stretch_names(Phase(name="step", seconds=1, of_capacity=(0.5, 1.2)))
    ['step at 50 %', 'step at 120 %']
    """
    if isinstance(phase.of_capacity, tuple):
        return [f"{phase.name} at {share:.0%}".replace("%", " %") for share in phase.of_capacity]
    return [phase.name]


def names() -> tuple[str, ...]:
    """Scenarios that come along."""
    return tuple(sorted(path.stem for path in SCENARIOS.glob("*.toml")))


def load(name: str) -> tuple[Scenario, str]:
    """The scenario of that name, or in that file, and its text. Raises CannotTest."""
    path = Path(name) if name.endswith(".toml") else SCENARIOS / f"{name}.toml"
    try:
        text = path.read_text()
    except OSError:
        raise CannotTest(
            f"There is no scenario {name!r}; there are: {', '.join(names())}, or the path of your own .toml"
        ) from None
    try:
        return Scenario.model_validate(tomllib.loads(text)), text
    except tomllib.TOMLDecodeError as error:
        raise CannotTest(f"{path.name} is not TOML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise CannotTest(f"{path.name}: {place + ': ' if place else ''}{first['msg']}") from error
