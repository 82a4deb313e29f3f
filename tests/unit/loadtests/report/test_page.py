"""The report: whole, safe, and in need of nothing but itself."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from loadtests.failures import CannotTest
from loadtests.report.page import page
from loadtests.report.told import told
from loadtests.result import Gauges, Result, read, write
from tests.load_results import result_of

_STEPS = {"step at 50 %": 500.0, "step at 100 %": 1_000.0, "step at 200 %": 2_000.0}
_VOID_ELEMENTS = {"meta", "br", "input", "img", "link", "hr"}


class _Balanced(HTMLParser):
    """Whether everything that is opened is closed, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += attrs
        if tag not in _VOID_ELEMENTS:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del tag
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def _parsed(html: str) -> _Balanced:
    parser = _Balanced()
    parser.feed(html)
    parser.close()
    assert parser.open == []
    return parser


def test_the_page_is_whole_and_fetches_nothing() -> None:
    html = page(result_of(_STEPS, refused_share=0.1))
    parser = _parsed(html)
    assert {name for name, _ in parser.attributes}.isdisjoint({"src", "href", "srcset", "onclick", "onload"})
    assert not re.search(r"url\(|@import|<script|://(?!127\.0\.0\.1)", html)


def test_it_shows_every_stretch_objective_stage_and_process() -> None:
    html = page(result_of(_STEPS))
    for text in (*_STEPS, "Quick", "features", "serving", "redis stands still for 2 s", "FLYWHEEL_SERVING_WORKERS"):
        assert text in html
    assert "passed: all objectives met" in html


def test_both_schemes_and_both_widths_are_there() -> None:
    html = page(result_of(_STEPS))
    assert "prefers-color-scheme: dark" in html
    assert html.count('class="wide"') == html.count('class="narrow"') > 0


def test_numbers_that_are_none_break_nothing() -> None:
    result = result_of(_STEPS, refused_share=1.0, lag_ms=20.0)
    html = page(result.model_copy(update={"usage": [], "gauges": Gauges(at_s=[], in_flight=[], limit=[])}))
    _parsed(html)
    assert "void" in html
    # No coordinate is nan or infinite.
    assert not re.search(r'="[^"]*\b(?:nan|inf)\b', html)


def test_a_test_without_steps_has_no_curve() -> None:
    result = result_of({"steady": 300.0})
    (stretch,) = result.stretches
    html = page(result.model_copy(update={"stretches": [stretch.model_copy(update={"on_curve": False})]}))
    _parsed(html)
    assert "Latency against load" not in html
    assert "Latency against load" in page(result)


def test_what_others_wrote_is_escaped() -> None:
    assert "<b>x</b>" not in page(result_of(_STEPS, title="<b>x</b>"))


def test_a_result_is_read_as_it_was_written(tmp_path: Path) -> None:
    result = result_of(_STEPS, refused_share=1.0)
    path = tmp_path / "result.json"
    write(result, path)
    # Infinite and not-a-number do not equal themselves; what is shown of them does.
    assert page(read(path)) == page(result)


def test_another_file_is_no_result(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    with pytest.raises(CannotTest, match="cannot be read"):
        read(path)
    path.write_text("{}")
    with pytest.raises(CannotTest, match="no result of a load test"):
        read(path)


def test_lines_for_a_terminal_tell_the_verdicts() -> None:
    failed = result_of(_STEPS)
    verdict = failed.objectives[0].model_copy(update={"verdict": "failed", "value": float("inf")})
    text = told(Result.model_validate(failed.model_copy(update={"objectives": [verdict]}).model_dump()))
    assert "FAILED  Quick: p99_ms ∞ ms, wanted <= 50" in text
    assert text.endswith("\nFAILED")
