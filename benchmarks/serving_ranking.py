"""Two hundred items ranked for a user: serving's `Rank` against the same by Feast's SDK behind FastAPI."""

from __future__ import annotations

from benchmarks.figures import Figure
from benchmarks.serving_bench import NotMeasured, Pace
from benchmarks.serving_scene import Scene

GOALS = {"rank200_vs_feast": ">= 6", "rank200_p99_ms_at_half": "<= 20"}


def measure(scene: Scene, pace: Pace) -> dict[str, Figure]:
    """Closed-loop capacity of both, and how quick ours is at half of it."""
    del scene, pace
    raise NotMeasured("serving does not rank")
