"""The parts of the page that say it in numbers: objectives, stages, every stretch, and what it all ran on."""

from __future__ import annotations

from html import escape

from loadtests.report.elements import facts, panel, table
from loadtests.report.formats import amount, count, ms, share
from loadtests.result import Result, StageFigures


def objectives(result: Result) -> str:
    """What had to be, what came out, and the verdict."""
    if not result.objectives:
        return ""
    rows = []
    for each in result.objectives:
        where = ", ".join(filter(None, (each.phase, each.subject))) + (f": {each.why}" if each.why else "")
        rows.append(
            (
                f'<span class="{each.verdict}">{each.verdict}</span>',
                f'{escape(each.name)}<span class="under"><code>{escape(each.measure)}</code>, {escape(where)}</span>',
                f'{amount(each.measure, each.value)}<span class="under">wanted {escape(each.bound)}</span>',
            )
        )
    note = "Declared before the test, in the scenario's file below."
    return panel("Objectives", note, table(("verdict", "objective", "measured"), rows, {2}), True)


def stages(result: Result) -> str:
    """Percentiles of each stage, calm, busy and beyond."""
    chosen = [each for each in result.stretches if each.measured and each.stages]
    steps = [each for each in chosen if each.on_curve] or chosen
    if not steps:
        return panel("Where decisions spend their time", "Serving's metrics were not seen.", "", True)
    shown = [steps[place] for place in sorted({0, len(steps) // 2, len(steps) - 1})]
    names = sorted({stage.stage for each in shown for stage in each.stages})
    most = max(stage.p99_ms for each in shown for stage in each.stages) or 1.0
    rows = []
    for name in names:
        cells = [f"<code>{escape(name)}</code>"]
        for each in shown:
            stage = next((one for one in each.stages if one.stage == name), None)
            cells.append(_stage(stage, most) if stage else "–")
        rows.append(cells)
    return panel(
        "Where decisions spend their time",
        "Serving's own measure of each stage: p50 / p95 / p99 in milliseconds; the bar is p99. "
        "Read from histograms, so exact to a bucket's width.",
        table(("stage", *(escape(each.name) for each in shown)), rows, set()),
        True,
    )


def _stage(stage: StageFigures, most_ms: float) -> str:
    width = max(1.0, stage.p99_ms / most_ms * 100)
    return (
        f"{ms(stage.p50_ms)} / {ms(stage.p95_ms)} / {ms(stage.p99_ms)}"
        f'<span class="under">mean {ms(stage.mean_ms)}</span>'
        f'<span class="bar"><i style="width:{width:.0f}%"></i></span>'
    )


def stretches(result: Result) -> str:
    """Every figure of every stretch."""
    rows = []
    for stretch in result.stretches:
        for figures in stretch.figures:
            if not stretch.measured or not figures.asked:
                continue
            m = figures.measures
            rows.append(
                (
                    f"{escape(stretch.name)}<span class='under'>{escape(figures.traffic)}</span>",
                    count(figures.asked / (stretch.end_s - stretch.start_s)),
                    count(m["goodput_per_s"]),
                    *(ms(figures.shown(f"answered_{name}_ms")) for name in ("p50", "p90", "p99", "p999", "max")),
                    share(m["refused_share"]),
                    ms(figures.shown("refusal_p99_ms")),
                    share(m["degraded_share"]),
                    count(m["failed"]),
                    f"{ms(figures.lag_p99_ms)}{' <b class=void>void</b>' if figures.void else ''}",
                )
            )
    heads = (
        "stretch",
        "asked/s",
        "in time/s",
        "p50 ms",
        "p90",
        "p99",
        "p99.9",
        "max",
        "refused",
        "refusal p99 ms",
        "by the rule",
        "failed",
        "generator lag p99 ms",
    )
    return panel(
        "All stretches",
        "Percentiles are of answered requests, exact, from the intended moment of each; a dash where there were too "
        "few for one.",
        table(heads, rows, set(range(1, len(heads)))),
        True,
    )


def surroundings(result: Result) -> str:
    """Versions and settings."""
    statuses = [
        (f"{traffic.name}: ended with status", ", ".join(f"{count(n)} × {s}" for s, n in traffic.statuses.items()))
        for traffic in result.traffic
    ]
    pairs = [
        ("Commit", result.commit),
        ("Machine", result.machine),
        *result.versions.items(),
        *statuses,
        (
            "Load generator",
            f"{result.generator_cores:.0%} of a core; stood still for {result.longest_stall_ms:g} ms at most",
        ),
        *result.settings.items(),
    ]
    return panel("What it ran on", "Versions, and every setting that is not as it comes.", facts(pairs))


def declared(result: Result) -> str:
    """The scenario's own words."""
    return panel(
        "What was declared",
        f"The scenario <code>{escape(result.scenario)}</code>, word for word.",
        f"<details><summary>Show the file</summary><pre>{escape(result.declared)}</pre></details>",
    )
