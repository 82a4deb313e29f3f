"""What the newest decisions were, how long they took and how fresh their features were."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from flywheel.adapters.logs import Pseudonyms
from flywheel.contracts.decisions import MODEL_RUN, DecisionLogged, Fallback, Step
from flywheel.contracts.events import from_us, to_us
from flywheel.kernel.declaration import UseCase
from flywheel.kernel.durations import SECOND_US, parse_duration
from flywheel.kernel.maturity import Outcomes
from flywheel.kernel.policy import Action
from services.monitor.state import Freshness, Mix, MixPoint, RecentDecision, Stage

SLICE_S = 5
_SLICES = 60
_TOTAL = "total"
_LATELY = timedelta(minutes=1)
_SPEED_LEAST = 100
_SPEED_SLICES = 10


def decision_mix(recent: Sequence[DecisionLogged], outcomes: Outcomes, now: datetime) -> Mix:
    """Shares among the newest decisions, and counts for each of the last slices of wall-clock time."""
    actions: Counter[str] = Counter(logged.action for logged in recent)
    n = len(recent)

    def share(part: int) -> float | None:
        return part / n if n else None

    return Mix(
        decisions=n,
        approved=share(n - actions[Action.STEP_UP] - actions[Action.DECLINE]),
        stepped_up=share(actions[Action.STEP_UP]),
        declined=share(actions[Action.DECLINE]),
        fallback=share(sum(logged.fallback != Fallback.NONE for logged in recent)),
        slice_s=SLICE_S,
        series=_series(outcomes, to_us(now)),
    )


def _series(outcomes: Outcomes, now_us: int) -> tuple[MixPoint, ...]:
    slice_us = SLICE_S * SECOND_US
    # The slice under way is left out: it would look like a drop.
    start_us = (now_us // slice_us - _SLICES) * slice_us
    place = (outcomes.decided_at_us - start_us) // slice_us
    inside = (place >= 0) & (place < _SLICES)

    def per_slice(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
        return np.bincount(place[inside & mask], minlength=_SLICES)

    approved, stepped_up = per_slice(~outcomes.flagged), per_slice(outcomes.stepped_up)
    declined, fallback = per_slice(outcomes.declined), per_slice(outcomes.fallback)
    return tuple(
        MixPoint(
            at=from_us(start_us + index * slice_us),
            approved=int(approved[index]),
            stepped_up=int(stepped_up[index]),
            declined=int(declined[index]),
            fallback=int(fallback[index]),
        )
        for index in range(_SLICES)
    )


def decisions_per_second(mix: Mix) -> float:
    """Mean rate over the last half minute that is complete."""
    last = mix.series[-30 // SLICE_S :]
    return sum(point.approved + point.stepped_up + point.declined for point in last) / (len(last) * SLICE_S)


def falling_back(recent: Iterable[DecisionLogged], now: datetime) -> tuple[float | None, Step | None]:
    """Of the last minute's decisions the share of fallbacks, and by which step most of these were made."""
    since = now - _LATELY
    lately = [logged for logged in recent if logged.decided_at >= since]
    fallbacks = [logged.step for logged in lately if logged.fallback != Fallback.NONE]
    steps = Counter(step for step in fallbacks if step is not None)
    return (
        len(fallbacks) / len(lately) if lately else None,
        steps.most_common(1)[0][0] if steps else None,
    )


def stages(recent: Iterable[DecisionLogged], usecase: UseCase) -> tuple[Stage, ...]:
    """Percentiles of every stage's duration, the whole first."""
    durations: dict[str, list[float]] = defaultdict(list)
    for logged in recent:
        for name, duration_ms in logged.stage_ms.items():
            # A part of the stage `model`, so no stage beside it.
            if name != MODEL_RUN:
                durations[name].append(duration_ms)
    budget = usecase.budget
    budgets = {_TOTAL: budget.total_ms, "features": budget.features_ms, "model": budget.model_ms}
    names = sorted(durations, key=lambda name: (name != _TOTAL, list(durations).index(name)))
    return tuple(_stage(name, durations[name], budgets.get(name)) for name in names)


def _stage(name: str, durations_ms: list[float], budget_ms: float | None) -> Stage:
    p50, p95, p99 = np.percentile(durations_ms, (50, 95, 99))
    return Stage(name=name, p50_ms=float(p50), p95_ms=float(p95), p99_ms=float(p99), budget_ms=budget_ms)


def freshness(recent: Sequence[DecisionLogged], usecase: UseCase) -> Freshness:
    """Lag of the feature store, status by entity view and by table, age of what is loaded."""
    lags = [logged.feature_lag_ms for logged in recent if logged.feature_lag_ms >= 0]
    statuses: dict[str, Counter[str]] = defaultdict(Counter)
    ages_ms: dict[str, list[float]] = defaultdict(list)
    for logged in recent:
        for table, age_ms in logged.feature_age_ms.items():
            ages_ms[table].append(age_ms)
        for view, status in logged.feature_status.items():
            statuses[view][status] += 1
    p50, p99 = np.percentile(lags, (50, 99)) if lags else (None, None)
    speed = event_clock_speed(recent)
    return Freshness(
        lag_p50_ms=p50,
        lag_p99_ms=p99,
        bound_ms=parse_duration(usecase.freshness) / 1_000,
        event_clock_speed=speed,
        lag_p50_event_s=None if p50 is None or speed is None else p50 / 1_000 * speed,
        statuses={view: dict(counts) for view, counts in sorted(statuses.items())},
        load_age_p50_ms={table: float(np.median(found)) for table, found in sorted(ages_ms.items())},
    )


def event_clock_speed(recent: Sequence[DecisionLogged]) -> float | None:
    """Seconds of event time in a second of wall clock; None below a hundred decisions or when none of it passed.

    The median over slices of the newest decisions, of which each is placed by its own median: a pause between two
    slices or a decision dated years away changes nothing.
    """
    if len(recent) < _SPEED_LEAST:
        return None
    times = np.array([(to_us(logged.decided_at), to_us(logged.event_time)) for logged in recent], dtype=np.int64)
    slices = np.array_split(times[np.argsort(times[:, 0], kind="stable")], _SPEED_SLICES)
    wall_us, event_us = np.diff([np.median(part, axis=0) for part in slices], axis=0).T
    passed = wall_us > 0
    return float(np.median(event_us[passed] / wall_us[passed])) if passed.any() else None


def last_decisions(recent: Sequence[DecisionLogged], pseudonyms: Pseudonyms, limit: int) -> tuple[RecentDecision, ...]:
    """The newest decisions, newest first, units hashed."""
    return tuple(
        RecentDecision(
            decided_at=logged.decided_at,
            event_time=logged.event_time,
            unit=pseudonyms.of(logged.unit),
            amount=logged.value,
            score=logged.score,
            action=logged.action,
            reasons=logged.reasons,
            arm=logged.arm,
            model_version=logged.model_version,
            fallback=logged.fallback,
            total_ms=logged.stage_ms.get(_TOTAL),
        )
        for logged in reversed(list(recent)[-limit:])
    )
