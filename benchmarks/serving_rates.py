"""How much each server sustains, and how quick ours is at less than that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from math import isfinite

import uvloop

from benchmarks import serving_alternatives as alternatives
from benchmarks.figures import Figure
from benchmarks.serving_bench import NotMeasured, Pace, busy_share, tell
from benchmarks.serving_processes import OTHERS_CORE
from benchmarks.serving_scene import CARDS, Scene
from benchmarks.serving_servers import AnyPool, Running, opened, ours
from loadtests.generator.load import one
from loadtests.generator.outcomes import Outcome

_CHECKED = 20
_TOLERANCE = 1e-6

Start = Callable[[Scene], AbstractContextManager[Running]]

STARTS: dict[str, Start] = {
    "echo": alternatives.echo,
    "own_echo": alternatives.own_echo,
    "ours": ours,
    "floor": alternatives.floor,
    "fastapi_feast": alternatives.fastapi_feast,
    "fastapi_feast_sync": lambda scene: alternatives.fastapi_feast(scene, "sync"),
    "mlserver": alternatives.mlserver,
    "litserve": alternatives.litserve,
    "bentoml": alternatives.bentoml,
}
_ECHOES = ("echo", "own_echo")

GOALS = {
    "rps_vs_mlserver": ">= 3",
    "rps_vs_fastapi_feast": ">= 2.5",
    "rps_vs_echo": ">= 0.6",
    "rps_vs_floor": ">= 1",
    "capacity_vs_mlserver": ">= 3",
    "capacity_vs_fastapi_feast": ">= 2.5",
    "capacity_vs_echo": ">= 0.6",
    "capacity_vs_floor": ">= 1",
    "p99_ms_at_half": "<= 10",
    "p99_ms_at_80": "<= 25",
}


def measure(scene: Scene, pace: Pace, names: Sequence[str] = ()) -> dict[str, Figure]:
    """`rps_…` (sustainable), `capacity_…` (closed loop), and percentiles at shares of the sustainable rate."""
    found: dict[str, Figure] = {}
    for name in names or STARTS:
        tell(f"{name} starts")
        try:
            with STARTS[name](scene) as server:
                found |= uvloop.run(_of_server(scene, server, name, pace))
        except (NotMeasured, RuntimeError, AssertionError) as reason:
            tell(f"{name} is NOT MEASURED: {reason}")
            found |= {f"rps_{name}": None, f"capacity_{name}": None}
    return _with_ratios(found)


async def _of_server(scene: Scene, server: Running, name: str, pace: Pace) -> dict[str, Figure]:
    async with opened(server) as pool:
        if name not in _ECHOES:
            await check(scene, server, pool)
        await pace.warm(pool)
        closed = await pace.best_capacity(pool)
        found: dict[str, Figure] = {f"capacity_{name}": round(closed.rate_per_s)}
        pace.void.clear()
        with busy_share(int(OTHERS_CORE)) as busy:
            try:
                rate_per_s, run = await pace.sustainable(pool, closed.rate_per_s)
            except NotMeasured as reason:
                tell(f"{name}: its sustainable rate is NOT MEASURED: {reason}")
                return {f"rps_{name}": None, **found, f"void_runs_{name}": len(pace.void)}
        found = {
            f"rps_{name}": round(rate_per_s),
            **found,
            f"generator_share_{name}": round(run.cpu_share, 3),
            f"generator_core_busy_{name}": busy(),
            f"void_runs_{name}": len(pace.void),
        }
        return found | await _less_than_sustainable(pool, name, rate_per_s, pace)


async def _less_than_sustainable(pool: AnyPool, name: str, rate_per_s: float, pace: Pace) -> dict[str, Figure]:
    is_ours = name == "ours"
    p50_ms, p99_ms = await pace.percentiles(pool, rate_per_s / 2, runs=3 if is_ours else 1)
    found = {f"p50_ms_at_half_{name}": _shown(p50_ms), f"p99_ms_at_half_{name}": _shown(p99_ms)}
    if is_ours:
        at_80 = await pace.percentiles(pool, rate_per_s * 0.8)
        found |= {"p99_ms_at_half": _shown(p99_ms), "p50_ms_at_80": _shown(at_80[0]), "p99_ms_at_80": _shown(at_80[1])}
    return found


async def check(scene: Scene, server: Running, pool: AnyPool) -> None:
    """Raises AssertionError unless the server scores cards as the model does."""
    for number in range(_CHECKED):
        outcome = await one(pool, number)
        assert outcome is Outcome.GOOD, f"{server.name} answers {outcome.name}: {pool.statuses}"
        answer, wanted = server.score(pool.last_answer), float(scene.scores[number % CARDS])
        assert abs(answer - wanted) <= _TOLERANCE, f"{server.name} answers {answer} instead of {wanted}"


def _with_ratios(found: dict[str, Figure]) -> dict[str, Figure]:
    """Adds ours against the others; of a peer that has two ways its better one counts."""
    for kind in ("rps", "capacity"):
        ours = found.get(f"{kind}_ours")
        ways = [found.get(f"{kind}_fastapi_feast{way}") for way in ("", "_sync")]
        best: dict[str, Figure] = {"fastapi_feast": max((float(w) for w in ways if w is not None), default=None)}
        for name in ("mlserver", "bentoml", "litserve", "floor", "echo", "own_echo"):
            best[name] = found.get(f"{kind}_{name}")
        for name, theirs in best.items():
            if ours is not None and theirs is not None:
                found[f"{kind}_vs_{name}"] = round(float(ours) / float(theirs), 3)
    return found


def _shown(value_ms: float) -> Figure:
    return round(value_ms, 3) if isfinite(value_ms) else None
