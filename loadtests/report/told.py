"""A result as lines in a terminal."""

from __future__ import annotations

from infra.local.console import table
from loadtests.report.formats import amount, count, ms, share
from loadtests.result import Result

_MARKS = {"passed": "passed", "failed": "FAILED", "void": "VOID"}


def told(result: Result) -> str:
    """Figures of the first traffic by stretch, then the verdict on each objective."""
    first = result.traffic[0].name
    rows = []
    for stretch in result.stretches:
        if not stretch.measured:
            continue
        found = stretch.of(first)
        measures = found.measures
        rows.append(
            (
                stretch.name,
                count(found.asked / (stretch.end_s - stretch.start_s)),
                count(measures["goodput_per_s"]),
                ms(found.shown("answered_p50_ms")),
                ms(found.shown("answered_p99_ms")),
                ms(measures["answered_max_ms"]),
                share(measures["refused_share"]),
                share(measures["degraded_share"]),
                count(measures["failed"]),
                f"void: {found.void}" if found.void else "",
            )
        )
    header = (first, "asked/s", "in time/s", "p50 ms", "p99 ms", "max ms", "refused", "by rule", "failed", "")
    lines = ["", table(header, rows), ""]
    for each in result.objectives:
        why = f" ({each.why})" if each.why else ""
        lines.append(
            f"{_MARKS[each.verdict]:7} {each.name}: {each.measure} {amount(each.measure, each.value)}, "
            f"wanted {each.bound}{why}"
        )
    lines.append(f"\n{result.verdict.upper()}")
    return "\n".join(lines)
