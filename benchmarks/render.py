"""Renders measured figures into the tables of the documents, so that no number in them is typed.

    python -m benchmarks.render            # rewrites the tables
    python -m benchmarks.render --adopt    # first copies what is shown from build/figures/ to docs/figures/

A table stands between `<!-- figures: <target> -->` and `<!-- /figures -->` and shows `docs/figures/<target>.json`.
"""

from __future__ import annotations

import argparse
import json
import operator
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.figures import FIGURES, ROOT
from infra.capacity.__main__ import main as render_capacity

ADOPTED = ROOT / "docs" / "figures"
DOCUMENTS = (ROOT / "README.md", ROOT / "docs" / "figures.md")

_BLOCK = re.compile(r"(<!-- figures: (?P<target>[a-z0-9-]+) -->\n).*?(<!-- /figures -->)", re.DOTALL)
_GOAL = re.compile(r"^(<=|>=|==|<|>) (-?[0-9.]+)$")
_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
}


def meets(value: float | None, goal: str) -> bool:
    """Whether a figure meets its goal; one that could not be measured does not.

    >>> meets(5.9, "<= 6"), meets(None, "<= 6")
    (True, False)
    """
    match = _GOAL.match(goal)
    if match is None:
        raise ValueError(f"{goal!r} is not a goal; write a comparison and a number, such as '<= 360'")
    return value is not None and _COMPARISONS[match[1]](value, float(match[2]))


def table(measured: dict[str, Any]) -> str:
    """A Markdown table of a figures file: name, value, goal, whether it is met; below it, commit and machine."""
    goals: dict[str, str] = measured["goals"]
    lines = ["| figure | measured | goal | |", "| --- | ---: | ---: | --- |"]
    for name, value in measured["figures"].items():
        goal = goals.get(name, "")
        verdict = "" if not goal else ("met" if meets(value, goal) else "**not met**")
        lines.append(f"| `{name}` | {_shown(value)} | {goal} | {verdict} |")
    commit, plus, changes = measured["commit"].partition("+")
    lines += ["", f"Commit `{commit[:12]}{plus}{changes}`; {measured['machine']}.", ""]
    return "\n".join(lines)


def _shown(value: object) -> str:
    if value is None:
        return "not measured"
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def rendered(text: str, directory: Path = ADOPTED) -> str:
    """The document with every table made anew from the figures in `directory`."""

    def fill(match: re.Match[str]) -> str:
        path = directory / f"{match['target']}.json"
        shown = table(json.loads(path.read_text())) if path.exists() else "Not measured yet.\n"
        return f"{match[1]}{shown}{match[3]}"

    return _BLOCK.sub(fill, text)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.render", description=__doc__.split("\n")[0])
    parser.add_argument("--adopt", action="store_true", help="copy build/figures/*.json to docs/figures/ first")
    if parser.parse_args().adopt:
        shown = {match["target"] for document in DOCUMENTS for match in _BLOCK.finditer(document.read_text())}
        for path in FIGURES.glob("*.json"):
            # Parts of a target have files of their own, and stand in the whole one's too.
            if path.stem in shown:
                shutil.copy(path, ADOPTED / path.name)
                print(f"adopted {path.name}")
    for document in DOCUMENTS:
        document.write_text(rendered(document.read_text()))
        print(f"rendered {document.relative_to(ROOT)}")
    # Computed from the same figures.
    render_capacity([])


if __name__ == "__main__":
    main()
