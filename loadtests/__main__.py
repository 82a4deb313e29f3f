"""Load tests of a running stack, their reports, and comparisons of two.

python -m loadtests run [SCENARIO]      # writes build/loadtests/<scenario>-<time>.{json,html}
python -m loadtests list
python -m loadtests render RESULT.json
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import uvloop
from pydantic import ValidationError

from benchmarks.figures import ROOT
from flywheel.contracts.settings import PlatformSettings
from loadtests import scenario
from loadtests.comparison.compared import compare
from loadtests.comparison.page import page as comparison_page
from loadtests.comparison.told import told as told_comparison
from loadtests.comparison.turns import in_turns, side_of
from loadtests.failures import CannotTest
from loadtests.preparation import Order
from loadtests.report.page import page
from loadtests.report.told import told
from loadtests.result import Result, read, write
from loadtests.run import run

RESULTS = ROOT / "build" / "loadtests"
_EXIT_CODES = {"passed": 0, "failed": 1, "void": 3}


def main() -> int:
    """The exit code: 0 all objectives met, 1 one is not, 2 nothing was measured, 3 a run that says nothing."""
    arguments = _parser().parse_args()
    do: Callable[[argparse.Namespace], int] = arguments.do
    try:
        return do(arguments)
    except CannotTest as reason:
        print(f"\n{reason}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nInterrupted; nothing is kept", file=sys.stderr)
        return 130


def _run(arguments: argparse.Namespace) -> int:
    declared, text = scenario.load(arguments.scenario)
    order = Order(Path(arguments.scenario).stem, declared, text, arguments.capacity, arguments.stretch, _teller())
    result = uvloop.run(run(order, _settings()))
    path = arguments.out or RESULTS / f"{order.name}-{datetime.now(UTC):%Y%m%dT%H%M%S}.json"
    write(result, path)
    path.with_suffix(".html").write_text(page(result))
    print(told(result))
    print(f"\n{_shown(path.with_suffix('.html'))}\n{_shown(path)}")
    return _EXIT_CODES[result.verdict]


def _list(arguments: argparse.Namespace) -> int:
    del arguments
    for name in scenario.names():
        declared, _ = scenario.load(name)
        print(f"{name:10} {declared.about}")
    return 0


def _render(arguments: argparse.Namespace) -> int:
    path = arguments.result.with_suffix(".html")
    path.write_text(page(read(arguments.result)))
    print(_shown(path))
    return 0


def _compare(arguments: argparse.Namespace) -> int:
    a, b = arguments.a, arguments.b
    if a.endswith(".json") and b.endswith(".json"):
        results = [read(Path(a))], [read(Path(b))]
    else:
        results = _measured_in_turns(arguments)
    comparison = compare(*results)
    path = arguments.out or RESULTS / f"compare-{datetime.now(UTC):%Y%m%dT%H%M%S}.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(comparison_page(comparison))
    print(f"\n{told_comparison(comparison)}\n\n{_shown(path)}")
    return 0


def _measured_in_turns(arguments: argparse.Namespace) -> tuple[list[Result], list[Result]]:
    if any(where.endswith(".json") for where in (arguments.a, arguments.b)):
        raise CannotTest("A result (.json) can be compared with a result only")
    declared, text = scenario.load(arguments.scenario)
    sides = (side_of("A", arguments.a, arguments.a_set), side_of("B", arguments.b, arguments.b_set))
    if (sides[0].checkout, sides[0].told) == (sides[1].checkout, sides[1].told):
        raise CannotTest(
            "A and B are the same; name two results, two commits or directories, or different settings: "
            'A=main~1, or ARGS="--b-set FLYWHEEL_SERVING_WORKERS=2"'
        )
    order = Order(Path(arguments.scenario).stem, declared, text, arguments.capacity, arguments.stretch, _teller())

    def test(mine: Order, settings: PlatformSettings) -> Result:
        return uvloop.run(run(mine, settings))

    return in_turns(sides, order, _settings(), arguments.pairs, test)


def _teller() -> Callable[[str], None]:
    began_s = time.monotonic()

    def tell(line: str) -> None:
        print(f"{time.monotonic() - began_s:6.1f} s  {line}", flush=True)

    return tell


def _settings() -> PlatformSettings:
    try:
        return PlatformSettings()
    except ValidationError as error:
        raise CannotTest(f"FLYWHEEL_*: {error.errors()[0]['msg']}") from error


def _shown(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m loadtests", description=__doc__.split("\n")[0])
    verbs = parser.add_subparsers(required=True)
    each = verbs.add_parser("run", help="test the stack that runs")
    each.add_argument("scenario", nargs="?", default="step", help=f"{', '.join(scenario.names())}, or a .toml file")
    each.add_argument("--capacity", type=float, default=0.0, help="requests a second, instead of measuring it")
    each.add_argument("--stretch", type=float, default=1.0, help="every stretch takes so many times as long")
    each.add_argument("--out", type=Path, help="where the result goes (.json; the report beside it)")
    each.set_defaults(do=_run)
    each = verbs.add_parser("list", help="show the scenarios that come along")
    each.set_defaults(do=_list)
    each = verbs.add_parser("render", help="write the report of a result again")
    each.add_argument("result", type=Path)
    each.set_defaults(do=_render)
    each = verbs.add_parser("compare", help="is B faster than A, and how sure is that")
    each.add_argument("a", help="a result (.json); or a commit, a directory, or . for this checkout")
    each.add_argument("b", help="the same")
    each.add_argument("--a-set", action="append", default=[], metavar="NAME=VALUE", help="a setting of A alone")
    each.add_argument("--b-set", action="append", default=[], metavar="NAME=VALUE", help="a setting of B alone")
    each.add_argument("--scenario", default="turns", help="what is asked of both, in turns")
    each.add_argument("--pairs", type=int, default=5, help="how often each side is measured")
    each.add_argument("--capacity", type=float, default=0.0, help="requests a second, instead of measuring A's")
    each.add_argument("--stretch", type=float, default=1.0, help="every stretch takes so many times as long")
    each.add_argument("--out", type=Path, help="where the report goes (.html)")
    each.set_defaults(do=_compare)
    return parser


if __name__ == "__main__":
    sys.exit(main())
