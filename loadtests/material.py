"""What requests are made of: events of the use case's own world, or of a recording, in their order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flywheel.client.errors import ClientError
from flywheel.client.rows import read_rows
from flywheel.client.world_driver import build_world
from flywheel.contracts.events import to_us
from flywheel.kernel.declaration import UseCase
from flywheel.kernel.durations import DAY_US
from loadtests.failures import CannotTest

_ENOUGH_EVENTS = 20_000
_MOST_DAYS = 30


@dataclass(frozen=True)
class Material:
    """Request events as JSON objects, with the moments they happened."""

    events: Sequence[Mapping[str, Any]]
    moments_s: NDArray[np.float64]
    """Ascending, from the first."""


def of_usecase(usecase: UseCase, present: datetime | None) -> Material:
    """Request events of the world's days around the present. Raises CannotTest where no world is declared."""
    if not usecase.world:
        raise CannotTest(
            f"{usecase.name} declares no world to take requests from; name a file of your own in the scenario's "
            '`recording = "requests.jsonl"`'
        )
    try:
        world, _ = build_world(usecase)
    except ClientError as error:
        raise CannotTest(str(error)) from error
    day = max(0, (to_us(present) - world.start_us) // DAY_US) if present else 0
    events: list[Mapping[str, Any]] = []
    at_us: list[int] = []
    for number in range(int(day), int(day) + _MOST_DAYS):
        chosen = [each for each in world.day(number).events if each.event_name == usecase.request.event_name]
        events += [each.fields for each in chosen]
        at_us += [each.event_time_us for each in chosen]
        if len(events) >= _ENOUGH_EVENTS:
            break
    return Material(events, _from_first_s(at_us))


def of_file(usecase: UseCase, path: Path) -> Material:
    """The request events in a file. Raises CannotTest, naming what is wrong with it."""
    name = usecase.request.event_name
    try:
        rows = list(read_rows(path, usecase.request, f"{name} event"))
    except ClientError as error:
        raise CannotTest(str(error)) from error
    if unreadable := next((row for row in rows if row.unreadable), None):
        raise CannotTest(f"{path}: row {unreadable.number}: {unreadable.unreadable}")
    if not rows:
        raise CannotTest(f"{path} holds no {name}")
    try:
        timed = sorted((to_us(datetime.fromisoformat(str(row.fields["event_time"]))), row.number) for row in rows)
    except (KeyError, ValueError) as error:
        raise CannotTest(f"{path}: each row needs an event_time such as 2026-01-31T12:00:00Z: {error}") from error
    return Material([rows[number - 1].fields for _, number in timed], _from_first_s([at_us for at_us, _ in timed]))


def _from_first_s(at_us: Sequence[int]) -> NDArray[np.float64]:
    moments = np.sort(np.asarray(at_us, np.float64)) / 1e6
    return moments - moments[0] if len(moments) else moments
