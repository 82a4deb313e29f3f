"""The tables of docs/capacity.md, between `<!-- capacity: <name> -->` and `<!-- /capacity -->`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np

from infra.capacity.measured import Capacities, Known
from infra.capacity.model import Assumptions, Part, full_at, limits, parts
from infra.capacity.queueing import lognormal, mean_wait_mg1, waits, waits_apart

PAGE = Path(__file__).resolve().parents[2] / "docs" / "capacity.md"
SCALES = (1, 10, 1_000)
_SEED = 20_261_121
_ARRIVALS = 200_000
_SETTLED = 20_000
_TOWARDS_FULL = (1, 3, 6, 8, 9, 10)
_BLOCK = re.compile(r"(<!-- capacity: (?P<name>[a-z-]+) -->\n).*?(<!-- /capacity -->)", re.DOTALL)


def rendered(text: str, known: Capacities, assumed: Assumptions) -> str:
    """The page with every table made anew. Raises KeyError for one that does not exist."""
    made = {
        "known": lambda: _known(known),
        "assumed": lambda: _assumed(assumed),
        "sizes": lambda: _sizes(known, assumed),
        "costs": lambda: _costs(known, assumed),
        "limits": lambda: _limits(known, assumed),
        "first": lambda: _first(known, assumed),
        "waits": lambda: _waits(known, assumed),
        "store": lambda: _store(known, assumed),
    }
    return _BLOCK.sub(lambda match: f"{match[1]}{made[match['name']]()}\n{match[3]}", text)


def _known(known: Capacities) -> str:
    rows = []
    for each in fields(known):
        one: Known = getattr(known, each.name)
        rows.append((f"`{each.name}`", f"{one.value:,.4g}" if one.value < 100 else f"{one.value:,.0f}", one.source))
    return _table(("what", "value", "from"), rows, right=(1,))


def _assumed(assumed: Assumptions) -> str:
    rows = [(f"`{each.name}`", f"{getattr(assumed, each.name):,}") for each in fields(assumed)]
    return _table(("assumption", "value"), rows, right=(1,))


def _sizes(known: Capacities, assumed: Assumptions) -> str:
    columns = [parts(scale * known.payments.value, known, assumed) for scale in SCALES]
    rows = [(name.name, *(_size(column[row]) for column in columns)) for row, name in enumerate(columns[0])]
    return _table(("part", *(_scale(scale, known) for scale in SCALES)), rows)


def _size(part: Part) -> str:
    disk = f", {_amount(part.disk_gib)} on disk" if part.disk_gib else ""
    cores = "1 core" if part.cores == 1 else f"{part.cores:,.0f} cores"
    return f"{part.instances:,} × · {cores}, {_amount(part.memory_gib)}{disk}"


def _costs(known: Capacities, assumed: Assumptions) -> str:
    rows = []
    for scale in SCALES:
        payments = scale * known.payments.value
        found = parts(payments, known, assumed)
        total = sum(part.month(assumed) for part in found)
        disk = sum(part.disk_gib for part in found) * assumed.disk_gib_month
        million = total / (payments * 730 * 3600 / 1e6)
        cores = sum(part.cores for part in found)
        rows.append((_scale(scale, known), f"{cores:,.0f}", f"${total:,.0f}", f"${disk:,.0f}", f"${million:.2f}"))
    head = ("traffic", "cores", "a month", "of it the broker's disks", "a million payments")
    return _table(head, rows, right=(1, 2, 3, 4))


def _limits(known: Capacities, assumed: Assumptions) -> str:
    rows = [
        (one.name, f"{one.payments:,.0f}", f"{one.payments / known.payments.value:.1f}×", one.consequence, one.remedy)
        for one in limits(known, assumed)
    ]
    return _table(("limit", "payments/s", "traffic", "then", "what helps"), rows, right=(1, 2))


def _first(known: Capacities, assumed: Assumptions) -> str:
    lines = []
    for scale in SCALES:
        full = [limit.name for limit in full_at(scale * known.payments.value, known, assumed)]
        said = f"in this order: {'; '.join(full)}" if full else "nothing; the stack as it is carries it"
        lines.append(f"- **{_scale(scale, known)}**: {said}.")
    return "\n".join(lines)


def _waits(known: Capacities, assumed: Assumptions) -> str:
    head = (
        "traffic",
        "processes",
        "busy",
        "p99 wait, one queue",
        "p99 wait, a queue each",
        "a zone away: busy",
        "p99 wait",
    )
    return _table(head, list(_simulated(known, assumed)), right=tuple(range(1, 7)))


def _simulated(known: Capacities, assumed: Assumptions) -> Iterator[tuple[str, ...]]:
    service_ms = 1_000 / known.decisions_a_core.value
    for scale in SCALES:
        rng = np.random.default_rng(_SEED)
        payments_ms = scale * known.payments.value / 1_000
        pods = parts(scale * known.payments.value, known, assumed)[0].instances
        left = pods - pods // assumed.zones
        services = lognormal(rng, service_ms, known.decision_variability.value, _ARRIVALS)
        one = waits(rng, pods, payments_ms, services)[_SETTLED:]
        apart = waits_apart(rng, pods, payments_ms, services)
        fewer = waits_apart(rng, left, payments_ms, services)
        yield (
            _scale(scale, known),
            f"{pods:,}",
            f"{payments_ms * service_ms / pods:.0%}",
            *(f"{np.percentile(found, 99):.2f} ms" for found in (one, apart)),
            f"{payments_ms * service_ms / left:.0%}",
            f"{np.percentile(fewer, 99):.2f} ms",
        )


def _store(known: Capacities, assumed: Assumptions) -> str:
    """Waiting for the one Redis primary: one server, as variable as memoryless times."""
    service_ms = 1_000 / known.redis_commands.value
    rows = []
    for multiple in _TOWARDS_FULL:
        rate_ms = multiple * known.payments.value * assumed.redis_commands_a_payment / 1_000
        rng = np.random.default_rng(_SEED)
        found = waits(rng, 1, rate_ms, lognormal(rng, service_ms, 1.0, _ARRIVALS))[_SETTLED:]
        busy = rate_ms * service_ms
        formula = mean_wait_mg1(busy, service_ms, 1.0)
        shown = (float(found.mean()), formula, *(float(np.percentile(found, share)) for share in (99, 99.9)))
        rows.append((f"{multiple}×", f"{busy:.0%}", *(f"{value:.2f} ms" for value in shown)))
    head = ("traffic", "busy", "mean wait", "by the formula", "p99", "p99.9")
    return _table(head, rows, right=tuple(range(1, 6)))


def _scale(scale: int, known: Capacities) -> str:
    return f"{scale:,}×: {scale * known.payments.value:,.0f}/s"


def _amount(gib: float) -> str:
    if gib >= 10 * 1024:
        return f"{gib / 1024:,.0f} TiB"
    return f"{gib:,.0f} GiB" if gib >= 10 else f"{gib:.1f} GiB"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    rule = ["---:" if index in right else "---" for index in range(len(head))]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))
