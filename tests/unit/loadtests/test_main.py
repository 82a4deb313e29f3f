"""What a person sees who asks for the wrong thing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from loadtests.__main__ import main
from loadtests.result import write
from tests.load_results import result_of


def _said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["loadtests", *arguments])
    code = main()
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def test_it_lists_its_scenarios(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = _said(monkeypatch, capsys, "list")
    assert code == 0
    assert "Redis stands still" in text


def test_an_unknown_scenario_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = _said(monkeypatch, capsys, "run", "nope")
    assert code == 2
    assert text.count("\n") == 2
    assert "there are: fault" in text


def test_a_side_with_itself_is_no_comparison(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = _said(monkeypatch, capsys, "compare", ".", ".")
    assert code == 2
    assert "A and B are the same" in text
    code, text = _said(monkeypatch, capsys, "compare", "a.json", ".")
    assert code == 2
    assert "with a result only" in text


def test_two_results_are_compared_and_the_page_is_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    steps = {"calm": 300.0}
    for name, median_ms in (("a", 2.0), ("b", 4.0)):
        write(result_of(steps, seconds=20.0, median_ms=median_ms, seed=ord(name)), tmp_path / f"{name}.json")
    out = tmp_path / "both.html"
    arguments = ("compare", str(tmp_path / "a.json"), str(tmp_path / "b.json"), "--out", str(out))
    code, text = _said(monkeypatch, capsys, *arguments)
    assert code == 0
    assert "worse" in text
    assert "B against A" in out.read_text()


def test_a_page_is_made_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    write(result_of({"calm": 300.0}), tmp_path / "a.json")
    code, text = _said(monkeypatch, capsys, "render", str(tmp_path / "a.json"))
    assert code == 0
    assert "a.html" in text
    assert (tmp_path / "a.html").read_text().startswith("<!doctype html>")
