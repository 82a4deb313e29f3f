"""`python -m infra.local {up,down,status,logs,clean,rebuild,mlflow,jars}`: the whole platform on this machine."""

from __future__ import annotations

import argparse
import os
import sys

from flywheel.contracts.settings import PlatformSettings
from infra.local import jars, places
from infra.local.console import Console
from infra.local.down import clean, down
from infra.local.failures import CannotStart
from infra.local.rebuild import rebuild
from infra.local.registry import open_registry
from infra.local.settings_check import read_platform
from infra.local.status import follow_logs, status
from infra.local.up import up


def main() -> int:
    """The exit code: 0 when what was asked for is so, 1 when it cannot be, 130 when it was interrupted."""
    arguments = _parser().parse_args()
    # Relative settings, `.env` included, are relative to the checkout.
    os.chdir(places.ROOT)
    console = Console()
    try:
        return _run(arguments, read_platform(), console)
    except CannotStart as reason:
        print(f"\n{reason}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted; `make up` goes on from here, `make down` stops what is up", file=sys.stderr)
        return 130


def _run(arguments: argparse.Namespace, settings: PlatformSettings, console: Console) -> int:
    match arguments.verb:
        case "up":
            up(settings, console)
        case "down":
            down(settings, console)
        case "clean":
            clean(settings, console)
        case "status":
            return 0 if status(settings, console) else 1
        case "logs":
            follow_logs(settings, arguments.process)
        case "mlflow":
            open_registry(settings, arguments.port)
        case "rebuild":
            rebuild(settings, console)
        case "jars":
            console.plain(f"{jars.ensure(console.plain)} jars in {places.JARS}, digests right")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m infra.local", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("up", help="start everything that does not run, and wait until it is ready")
    verbs.add_parser("down", help="stop everything that was started; data stays")
    verbs.add_parser("status", help="show what runs; exit code 1 unless everything runs or is starting")
    logs = verbs.add_parser("logs", help="follow the logs")
    logs.add_argument("process", nargs="*", help="of these processes; of all without a name")
    verbs.add_parser("clean", help="stop everything and remove its data")
    verbs.add_parser("rebuild", help="fill the online store again from the lake; everything else goes on")
    registry = verbs.add_parser("mlflow", help="serve the model registry's own page until Ctrl-C")
    registry.add_argument("--port", type=int, default=5000, help="default: 5000")
    verbs.add_parser("jars", help="fetch the pinned jars and check their digests")
    return parser


if __name__ == "__main__":
    sys.exit(main())
