"""What a load test found, as it is kept: everything that the report shows and a comparison needs."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from loadtests.failures import CannotTest
from loadtests.measures import NEEDS

FORMAT = 1


class _Kept(BaseModel):
    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="constants")


class Figures(_Kept):
    """What became of one traffic's requests in one stretch."""

    traffic: str
    asked: int
    good: int
    degraded: int
    refused: int
    failed: int
    unanswered: int
    measures: dict[str, float]
    """By name; infinite and not-a-number where that is the answer."""
    lag_p99_ms: float
    """How late the generator itself was."""
    void: str = ""
    """Why the stretch says nothing about the stack; empty when it does."""

    def has_enough_for(self, measure: str) -> bool:
        """Whether there were as many requests as a percentile of that name needs to be one."""
        of = {"answered": self.good + self.degraded, "refusal": self.refused}
        return of.get(measure.partition("_")[0], self.asked) >= NEEDS.get(measure, 0)

    def shown(self, measure: str) -> float:
        """The measure; not a number where there were too few requests for it."""
        return self.measures[measure] if self.has_enough_for(measure) else float("nan")


class StageFigures(_Kept):
    """One stage of decisions in one stretch, by serving's own histogram."""

    stage: str
    decisions: int
    mean_ms: float
    p50_ms: float
    p95_ms: float
    p99_ms: float


class StretchResult(_Kept):
    """One stretch; seconds from the test's begin."""

    name: str
    start_s: float
    end_s: float
    asked_per_s: float
    of_capacity: float | None
    measured: bool
    on_curve: bool
    figures: list[Figures]
    stages: list[StageFigures]

    def of(self, traffic: str) -> Figures:
        """The figures of that traffic."""
        return next(each for each in self.figures if each.traffic == traffic)


class Second(_Kept):
    """One traffic in one second: how requests intended then ended, and latencies of the answered ones by bucket."""

    at_s: float
    good: int
    degraded: int
    refused: int
    failed: int
    in_time: int
    latencies: dict[int, int]
    """How many by bucket, answered ones, those of a makeshift included."""


class TrafficResult(_Kept):
    """One traffic over the whole test."""

    name: str
    kind: str
    address: str
    usecase: str
    within_ms: float
    request_bytes: tuple[int, int, int]
    """Smallest, median and largest."""
    statuses: dict[str, int]
    seconds: list[Second]


class Usage(_Kept):
    """One process over time."""

    process: str
    at_s: list[float]
    cores: list[float]
    """Processors used since the moment before."""
    rss_mib: list[float]


class Gauges(_Kept):
    """What serving said of itself over time."""

    at_s: list[float]
    in_flight: list[float]
    limit: list[float]


class FaultResult(_Kept):
    """What was done to a process, and when."""

    at_s: float
    for_s: float
    what: str


class Verdict(_Kept):
    """An objective and what came out: `passed`, `failed`, or `void` when the run does not say."""

    name: str
    measure: str
    phase: str
    subject: str
    bound: str
    value: float
    verdict: str
    why: str = ""


class Result(_Kept):
    """One load test."""

    format: int = FORMAT
    scenario: str
    title: str
    about: str
    declared: str
    """The scenario's file."""
    began_at: str
    seconds: float
    usecase: str
    commit: str
    machine: str
    versions: dict[str, str]
    settings: dict[str, str]
    """`FLYWHEEL_*` that are not as they come."""
    capacity_per_s: float
    """Of callers in a ring, the first traffic alone; 0 where it was not needed."""
    generator_cores: float
    longest_stall_ms: float
    """How long the generator itself stood still at most."""
    machine_busy: list[tuple[float, float]]
    """Moment, and share of all processors that had something to do since the one before."""
    traffic: list[TrafficResult]
    stretches: list[StretchResult]
    faults: list[FaultResult]
    usage: list[Usage]
    gauges: Gauges
    objectives: list[Verdict]

    @property
    def verdict(self) -> str:
        """`failed` if an objective is, else `void` if one is or a stretch is, else `passed`."""
        found = {each.verdict for each in self.objectives}
        return "failed" if "failed" in found else "void" if "void" in found else "passed"

    def stretch(self, name: str) -> StretchResult:
        """The stretch of that name."""
        return next(each for each in self.stretches if each.name == name)


def write(result: Result, path: Path) -> None:
    """Keeps it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(result.model_dump_json() + "\n")


def read(path: Path) -> Result:
    """The result in a file. Raises CannotTest."""
    try:
        return Result.model_validate_json(path.read_text())
    except OSError as error:
        raise CannotTest(f"{path} cannot be read: {error.strerror}; results are build/loadtests/*.json") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise CannotTest(f"{path} is no result of a load test: {first['loc']}: {first['msg']}") from error
