"""Writes the tables of docs/capacity.md; with assumptions of your own it only prints the page.

python -m infra.capacity                              # from the measured figures and the stated assumptions
python -m infra.capacity --core-hour 0.055 --zones 2  # what other prices and habits come to
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields

from infra.capacity.measured import capacities
from infra.capacity.model import Assumptions
from infra.capacity.page import PAGE, rendered


def main(arguments: list[str]) -> int:
    """The process's exit status."""
    parser = argparse.ArgumentParser(prog="python -m infra.capacity", description=(__doc__ or "").split("\n")[0])
    for each in fields(Assumptions):
        kind = type(each.default)
        parser.add_argument(
            f"--{each.name.replace('_', '-')}", type=kind, default=each.default, metavar=each.name.upper()
        )
    assumed = Assumptions(**vars(parser.parse_args(arguments)))
    page = rendered(PAGE.read_text(), capacities(), assumed)
    if assumed != Assumptions():
        print(page)
        return 0
    PAGE.write_text(page)
    print(f"rendered {PAGE.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
