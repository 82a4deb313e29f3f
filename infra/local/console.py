"""What a person sees while the stack starts and stops."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Sequence

_GREEN, _DIM, _PLAIN = "\033[32m", "\033[2m", "\033[0m"


class Console:
    """Prints lines with the time since it was made. `done` of `total` steps are counted by the caller."""

    def __init__(
        self, write: Callable[[str], object] | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._write = write or _print
        self._coloured = write is None and sys.stdout.isatty()
        self._clock = clock
        self._began_s = clock()

    def phase(self, number: int, of: int, text: str) -> None:
        """A part of the whole begins."""
        self._write(f"[{number}/{of}] {text}")

    def note(self, name: str, text: str) -> None:
        """Something is under way."""
        self._line(" " * 7, name, text, _DIM)

    def step(self, done: int, total: int, name: str, text: str) -> None:
        """A step is done."""
        self._line(f"{done:>3}/{total:<3}", name, text, _GREEN)

    def plain(self, text: str) -> None:
        """Text without time."""
        self._write(text)

    def elapsed_s(self) -> float:
        """Seconds since the console was made."""
        return self._clock() - self._began_s

    def _line(self, mark: str, name: str, text: str, colour: str) -> None:
        before, after = (colour, _PLAIN) if self._coloured else ("", "")
        self._write(f"{self.elapsed_s():6.1f} s {before}{mark}{after} {name:<9} {text}")


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Left-aligned columns as wide as their widest cell."""
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
    )


def _print(text: str) -> None:
    print(text, flush=True)
