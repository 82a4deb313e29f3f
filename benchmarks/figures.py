"""Writes measured figures to `build/figures/<target>.json`, beside the goals they are held against."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
FIGURES = ROOT / "build" / "figures"

Figure = float | int | str | bool | None


def write(
    target: str, figures: Mapping[str, Figure], goals: Mapping[str, str], directory: Path = FIGURES, root: Path = ROOT
) -> Path:
    """The file that now holds the figures of `make figures-<target>`.

    `figures`: value by name; `None` means that it could not be measured. `goals`: by the same names, a comparison
    such as `"<= 360"`. Raises ValueError for a goal without a figure.
    """
    if unmeasured := sorted(set(goals) - set(figures)):
        raise ValueError(f"goals without figures: {', '.join(unmeasured)}")
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{target}.json"
    content = {"commit": commit(root), "machine": machine(), "figures": dict(figures), "goals": dict(goals)}
    unfinished = path.with_suffix(".json.part")
    unfinished.write_text(json.dumps(content, indent=2) + "\n")
    unfinished.replace(path)
    return path


def commit(root: Path = ROOT) -> str:
    """The commit measured, with `+changes` when tracked files differ from it; `unknown` outside a checkout."""
    try:
        name = _git(root, "rev-parse", "HEAD")
        return f"{name}+changes" if _git(root, "status", "--porcelain", "--untracked-files=no") else name
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def machine() -> str:
    """What was measured on: cores, memory, system, processor, Python."""
    memory_gib = psutil.virtual_memory().total / 2**30
    parts = (
        f"{os.cpu_count()} cores",
        f"{memory_gib:.0f} GiB",
        f"{platform.system()} {platform.machine()}",
        _processor(),
        f"Python {platform.python_version()}",
    )
    return ", ".join(part for part in parts if part)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "")


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()
