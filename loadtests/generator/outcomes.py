"""How requests ended, and what a run of them says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray


class Outcome(IntEnum):
    """How one request ended."""

    UNANSWERED = 0
    """Nothing came until the run was over."""
    GOOD = 1
    DEGRADED = 2
    """Answered, but not by the model."""
    REFUSED = 3
    """Turned away because there is too much to do."""
    FAILED = 4


@dataclass(frozen=True)
class Run:
    """Every request of one run, in order of its intended moment; times in seconds after the start."""

    intended_s: NDArray[np.float64]
    sent_s: NDArray[np.float64]
    done_s: NDArray[np.float64]
    """NaN where nothing came."""
    outcome: NDArray[np.uint8]
    seconds: float
    """How long requests were sent."""
    cpu_share: float
    """What the load generator itself took of a core."""

    def latency_ms(self, *outcomes: Outcome) -> NDArray[np.float64]:
        """From the intended moment to the last byte of the answer, of requests that ended so."""
        chosen = np.isin(self.outcome, outcomes)
        return (self.done_s[chosen] - self.intended_s[chosen]) * 1e3

    def count(self, *outcomes: Outcome) -> int:
        """How many ended so."""
        return int(np.isin(self.outcome, outcomes).sum())

    def percentile_ms(self, at: float) -> float:
        """Of all requests, whatever their end: one that was refused, failed or is unanswered counts as for ever."""
        good = self.latency_ms(Outcome.GOOD)
        place = int(np.ceil(len(self.outcome) * at / 100)) - 1
        return float(np.partition(good, place)[place]) if 0 <= place < len(good) else float("inf")

    def in_time(self, within_ms: float) -> int:
        """How many were answered well within so much of their intended moment."""
        return int((self.latency_ms(Outcome.GOOD) <= within_ms).sum())

    @property
    def rate_per_s(self) -> float:
        """Good answers a second."""
        return self.count(Outcome.GOOD) / self.seconds

    def lag_ms(self, at: float) -> float:
        """How late the generator itself was, at a percentile; what a slow server does is no part of it."""
        lag_ms = (self.sent_s - self.intended_s) * 1e3
        # Without interpolation: between two requests that never left there is nothing to interpolate.
        return float(np.percentile(lag_ms, at, method="higher")) if len(lag_ms) else 0.0

    def is_void(self, lag_p99_ms: float = 5.0) -> bool:
        """Whether the generator could not keep to its schedule: then the run says nothing about the server."""
        return self.lag_ms(99) > lag_p99_ms

    def between(self, start_s: float, end_s: float) -> Run:
        """The part of the run that was intended within these seconds."""
        chosen = (self.intended_s >= start_s) & (self.intended_s < end_s)
        return self.chosen(chosen, seconds=end_s - start_s)

    def chosen(self, which: NDArray[np.bool_], *, seconds: float) -> Run:
        """The run of these requests alone."""
        return Run(
            self.intended_s[which],
            self.sent_s[which],
            self.done_s[which],
            self.outcome[which],
            seconds=seconds,
            cpu_share=self.cpu_share,
        )

    def told(self) -> str:
        """One line for people."""
        good = self.latency_ms(Outcome.GOOD)
        p50, p99, p999, most = np.percentile(good, (50, 99, 99.9, 100)) if len(good) else (np.nan,) * 4
        counts = " ".join(f"{each.name.lower()} {self.count(each)}" for each in Outcome if self.count(each))
        void = "  VOID: the generator could not keep up" if self.is_void() else ""
        return (
            f"{len(self.outcome) / self.seconds:,.0f}/s asked, {self.rate_per_s:,.0f}/s good; ms p50 {p50:.2f} "
            f"p99 {p99:.2f} p99.9 {p999:.2f} max {most:.1f}; {counts}; generator: lag p99 {self.lag_ms(99):.2f} ms, "
            f"{self.cpu_share:.0%} of a core{void}"
        )


def run_of(
    intended_s: Sequence[float] | NDArray[np.float64],
    sent_s: Sequence[float],
    done_s: Sequence[float],
    outcome: Sequence[int],
    *,
    seconds: float,
    cpu_share: float,
) -> Run:
    """The run with these columns."""
    return Run(
        np.asarray(intended_s, np.float64),
        np.asarray(sent_s, np.float64),
        np.asarray(done_s, np.float64),
        np.asarray(outcome, np.uint8),
        seconds=seconds,
        cpu_share=cpu_share,
    )
