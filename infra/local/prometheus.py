"""Prometheus beside the stack, where its binary is on this machine: it scrapes every process and evaluates the rules.

`python -m infra.local.prometheus` writes the configuration for this stack's ports and becomes that Prometheus.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import yaml

from flywheel.contracts.settings import PlatformSettings
from infra.local import places
from infra.local.becoming import become
from infra.local.failures import CannotStart
from infra.observability import scraping

NAME = "prometheus"
_HOST = "127.0.0.1"
_OFF = "off"
_RULES = places.ROOT / "infra" / "observability" / "prometheus" / "rules" / "*.yml"


def url(settings: PlatformSettings) -> str:
    """Where its pages are."""
    return f"http://{_HOST}:{settings.prometheus_port}"


def binary(settings: PlatformSettings) -> Path | None:
    """The binary that runs, if any does. Raises CannotStart when the one that is named cannot be run."""
    if settings.prometheus == _OFF:
        return None
    found = shutil.which(settings.prometheus or NAME)
    if found is None and settings.prometheus:
        raise CannotStart(
            f"FLYWHEEL_PROMETHEUS names {settings.prometheus}, which is no program; name Prometheus' binary, or `off`"
        )
    return Path(found).absolute() if found else None


def told(settings: PlatformSettings) -> str:
    """Where it is, or why it does not run and what to do about that."""
    if binary(settings):
        return url(settings)
    if settings.prometheus == _OFF:
        return "does not run (FLYWHEEL_PROMETHEUS=off)"
    return (
        "does not run: there is no `prometheus` on PATH (Debian: apt install prometheus; elsewhere name the binary by "
        "FLYWHEEL_PROMETHEUS), then make down and make up"
    )


def directory_of(settings: PlatformSettings) -> Path:
    """Where its configuration and what it scraped lie."""
    return settings.data_dir.absolute() / NAME


def prepare(settings: PlatformSettings) -> Path:
    """Writes the configuration for this stack, and tells where it is."""
    directory = directory_of(settings)
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "prometheus.yml"
    file.write_text(yaml.safe_dump(scraping.on_one_machine(settings, str(_RULES)), sort_keys=False))
    return file


def command(settings: PlatformSettings, program: Path, configuration: Path) -> list[str]:
    """The command that runs it in the foreground until SIGTERM."""
    return [
        str(program),
        f"--config.file={configuration}",
        f"--storage.tsdb.path={directory_of(settings) / 'series'}",
        f"--storage.tsdb.retention.time={settings.prometheus_kept}",
        "--storage.tsdb.retention.size=2GB",
        f"--web.listen-address={_HOST}:{settings.prometheus_port}",
        "--log.level=warn",
    ]


def main() -> None:
    """Becomes the Prometheus of the stack that the settings describe."""
    settings = PlatformSettings()
    become(lambda: command(settings, _found(settings), prepare(settings)))


def _found(settings: PlatformSettings) -> Path:
    program = binary(settings)
    if program is None:
        raise CannotStart(told(settings))
    return program


if __name__ == "__main__":
    main()
