"""One HTML file about one load test, which needs nothing but itself."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from html import escape
from pathlib import Path

from loadtests.report.elements import tile
from loadtests.report.formats import count, ms
from loadtests.report.machine import gauges, processes
from loadtests.report.pictures import on_load, over_time
from loadtests.report.sections import declared, objectives, stages, stretches, surroundings
from loadtests.result import Result, StretchResult

_STYLE = (Path(__file__).parent / "style.css").read_text()
_WHEEL = '<svg class="wheel" viewBox="0 0 24 24" aria-hidden="true"><circle cx="12" cy="12" r="9.5"/></svg>'
_WORDS = {"passed": "all objectives met", "failed": "an objective is missed", "void": "says nothing"}


def page(result: Result) -> str:
    """The whole document."""
    panels = [
        objectives(result),
        *on_load(result),
        gauges(result),
        *over_time(result),
        stages(result),
        processes(result),
        stretches(result),
        surroundings(result),
        declared(result),
    ]
    verdict = result.verdict
    return document(
        result.title,
        f'{_head(result)}{_tiles(result)}<div class="grid-of-panels">{"".join(panels)}</div>{_METHOD}',
        f'<span class="verdict {verdict}">{verdict}: {_WORDS[verdict]}</span>',
    )


def document(title: str, content: str, badge: str = "") -> str:
    """A page of that title with everything in it, style included."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)} – Flywheel load test</title><style>{_STYLE}</style></head><body>"
        f'<div class="top"><div class="name">{_WHEEL}<h1>{escape(title)}</h1></div>{badge}</div>'
        f"{content}</body></html>\n"
    )


def _head(result: Result) -> str:
    began = datetime.fromisoformat(result.began_at)
    commit = result.commit[:12] + ("+changes" if result.commit.endswith("+changes") else "")
    return (
        f'<p class="about">{escape(result.about)}</p>'
        f'<p class="facts">Flywheel load test of <b>{escape(result.usecase)}</b>, '
        f"{began:%-d %B %Y, %H:%M} UTC, {result.seconds:.0f} s · commit {escape(commit)} · {escape(result.machine)}</p>"
    )


def _tiles(result: Result) -> str:
    traffic = result.traffic[0]
    measured = [each for each in result.stretches if each.measured]
    best = max(measured, key=lambda each: each.of(traffic.name).measures["goodput_per_s"])
    longest = max(measured, key=lambda each: each.end_s - each.start_s)
    calm = longest.of(traffic.name)
    failed = sum(each.of(traffic.name).failed + each.of(traffic.name).unanswered for each in measured)
    asked = sum(each.of(traffic.name).asked for each in measured)
    sustained = _sustained(result, measured)
    tiles = [
        tile("Capacity", f"{count(result.capacity_per_s)} <small>/s</small>", "64 callers, each waiting for its answer")
        if result.capacity_per_s
        else "",
        tile(
            "Sustained",
            f"{count(sustained)} <small>/s</small>" if sustained else "–",
            f"most that was asked with 99 % in time, within {traffic.within_ms:g} ms",
        ),
        tile("Most in time", f"{count(best.of(traffic.name).measures['goodput_per_s'])} <small>/s</small>", best.name),
        tile(
            f"p99, {longest.name}" + (" (void)" if longest.of(traffic.name).void else ""),
            f"{ms(calm.shown('answered_p99_ms'))} <small>ms</small>",
            f"p50 {ms(calm.shown('answered_p50_ms'))}, p99.9 {ms(calm.shown('answered_p999_ms'))}, "
            f"max {ms(calm.shown('answered_max_ms'))}",
        ),
        tile("Failed", count(failed), f"of {count(asked)} requests of {escape(traffic.name)}"),
    ]
    return f'<section class="tiles">{"".join(tiles)}</section>'


def _sustained(result: Result, measured: Iterable[StretchResult]) -> float:
    name = result.traffic[0].name
    held = [
        each.of(name).asked / (each.end_s - each.start_s)
        for each in measured
        if each.of(name).measures["goodput_share"] >= 0.99 and not each.of(name).void
    ]
    return max(held, default=0.0)


_METHOD = (
    "<footer><p><b>How it was measured.</b> The load is open: every request has its moment before the test begins, and "
    "leaves at that moment whatever became of the earlier ones. Latency counts from the intended moment to the last "
    "byte of the answer, so a server that stalls cannot hide it, and neither can the generator: a stretch in which "
    "every hundredth request left more than 5 ms late, or the generator stood still for more than 100 ms, is void and "
    "proves nothing.</p><p>“In time” are answers by the model within the budget; “by the rule” answers of the declared "
    "fallback; “refused” were turned away with push-back. The generator runs on the same machine and takes its share "
    "of it.</p></footer>"
)
