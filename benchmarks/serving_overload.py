"""What serving does when it is asked for more than it can: twice, five times, ten times what it sustains."""

from __future__ import annotations

import numpy as np
import uvloop

from benchmarks.figures import Figure
from benchmarks.serving_bench import WITHIN_MS, Pace, tell, worst_percentile_ms
from benchmarks.serving_rates import check
from benchmarks.serving_scene import Scene
from benchmarks.serving_servers import AnyPool, Running, opened, ours
from loadtests.generator.arrivals import steps
from loadtests.generator.load import open_loop
from loadtests.generator.outcomes import Outcome, Run

_TIMES = (2, 5, 10)
_BEFORE_S, _OVER_S, _AFTER_S = 2.0, 8.0, 5.0
_CALM_SHARE = 0.5
_WINDOW_S = 0.1
_CALM = 0.99

GOALS = {
    "overload_goodput_2x": ">= 0.9",
    "overload_goodput_5x": ">= 0.9",
    "overload_goodput_10x": ">= 0.9",
    "overload_admitted_p99_ms": "<= 50",
    "refusal_p99_ms": "<= 5",
    "recovery_s": "<= 2",
}


def measure(scene: Scene, pace: Pace) -> dict[str, Figure]:
    """Goodput as a share of the best that was seen at any load, of answers by the model within the budget."""
    with ours(scene) as server:
        return uvloop.run(_measured(scene, server, pace))


async def _measured(scene: Scene, server: Running, pace: Pace) -> dict[str, Figure]:
    async with opened(server) as pool:
        await check(scene, server, pool)
        await pace.warm(pool)
        closed = await pace.best_capacity(pool)
        rate_per_s, run = await pace.sustainable(pool, closed.rate_per_s)
        runs = {times: await _overloaded(pool, rate_per_s, times, pace) for times in _TIMES}
    return figures_of(rate_per_s, run.in_time(WITHIN_MS) / run.seconds, runs, pace.share)


async def _overloaded(pool: AnyPool, rate_per_s: float, times: int, pace: Pace) -> Run:
    tell(f"  {times} times {rate_per_s:,.0f}/s")
    calm_per_s, share = rate_per_s * _CALM_SHARE, pace.share
    pattern = [(calm_per_s, _BEFORE_S), (rate_per_s * times, _OVER_S), (calm_per_s, _AFTER_S)]
    schedule = steps([(rate, seconds * share) for rate, seconds in pattern], seed=times)
    run = await open_loop(pool, schedule, seconds=(_BEFORE_S + _OVER_S + _AFTER_S) * share)
    tell(f"  {_over(run, share).told()}")
    return run


def figures_of(rate_per_s: float, sustained_per_s: float, runs: dict[int, Run], share: float) -> dict[str, Figure]:
    """The figures of these runs, by how many times the sustainable rate they asked."""
    over = {times: _over(run, share) for times, run in runs.items()}
    goodput = {times: run.in_time(WITHIN_MS) / run.seconds for times, run in over.items()}
    peak_per_s = max(sustained_per_s, *goodput.values())
    found: dict[str, Figure] = {"overload_sustainable_rps": round(rate_per_s), "overload_peak_rps": round(peak_per_s)}
    for times, run in over.items():
        found |= {
            f"overload_goodput_{times}x": round(goodput[times] / peak_per_s, 3),
            f"overload_{times}x_asked_rps": round(len(run.outcome) / run.seconds),
            f"overload_{times}x_by_the_rule_rps": round(run.count(Outcome.DEGRADED) / run.seconds),
            f"overload_{times}x_refused_rps": round(run.count(Outcome.REFUSED) / run.seconds),
            f"overload_{times}x_failed": run.count(Outcome.FAILED, Outcome.UNANSWERED),
            f"overload_{times}x_admitted_p99_ms": worst_percentile_ms(run, 99, Outcome.GOOD, Outcome.DEGRADED),
            f"overload_{times}x_refusal_p99_ms": worst_percentile_ms(run, 99, Outcome.REFUSED),
            f"overload_{times}x_recovery_s": recovery_s(runs[times], (_BEFORE_S + _OVER_S) * share),
            f"overload_{times}x_generator_lag_p99_ms": round(run.lag_ms(99), 2),
            f"overload_{times}x_is_void": run.is_void(),
        }
    for figure, each in (
        ("overload_admitted_p99_ms", "admitted_p99_ms"),
        ("refusal_p99_ms", "refusal_p99_ms"),
        ("recovery_s", "recovery_s"),
    ):
        values = [found[f"overload_{times}x_{each}"] for times in over]
        found[figure] = max((float(v) for v in values if v is not None), default=None)
    return found


def recovery_s(run: Run, calm_from_s: float) -> float:
    """How long after the load fell, at that moment of the run, the last tenth of a second was that did not go well."""
    last_s = calm_from_s
    for start_s in np.arange(calm_from_s, float(run.intended_s[-1]), _WINDOW_S):
        window = run.between(start_s, start_s + _WINDOW_S)
        if len(window.outcome) and window.in_time(WITHIN_MS) < _CALM * len(window.outcome):
            last_s = start_s + _WINDOW_S
    return round(float(last_s - calm_from_s), 2)


def _over(run: Run, share: float) -> Run:
    return run.between(_BEFORE_S * share, (_BEFORE_S + _OVER_S) * share)
