"""Writes the tables of docs/settings.md from the settings as they are declared: `python -m infra.settings_reference`.

A table stands between `<!-- settings: <part> -->` and `<!-- /settings -->` and lists what that part adds to the
settings that all processes share.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from flywheel.contracts.settings import PlatformSettings
from flywheel.kernel import catalog
from flywheel.kernel.world import WorldKnobs
from services.features.settings import FeaturesSettings
from services.ingest.settings import IngestSettings
from services.monitor.settings import MonitorSettings
from services.serving.settings import ServingSettings
from services.trainer.settings import TrainerSettings

PAGE = Path(__file__).resolve().parents[1] / "docs" / "settings.md"
SETTINGS: Mapping[str, type[PlatformSettings]] = {
    "platform": PlatformSettings,
    "ingest": IngestSettings,
    "features": FeaturesSettings,
    "trainer": TrainerSettings,
    "serving": ServingSettings,
    "monitor": MonitorSettings,
}
_PREFIX = "FLYWHEEL_"
_BLOCK = re.compile(r"(<!-- settings: (?P<part>[a-z-]+) -->\n).*?(<!-- /settings -->)", re.DOTALL)


class Undescribed(Exception):
    """A setting has no meaning; write one below it, where it is declared."""


def parts() -> dict[str, list[str]]:
    """Rows of every table, by part: the services, any world, and each use case's own world."""
    found = {name: list(_rows(kind, _PREFIX)) for name, kind in SETTINGS.items()}
    found["world"] = list(_rows(WorldKnobs, f"{_PREFIX}WORLD_"))
    for name in catalog.names():
        if world := catalog.load(name).world:
            found[f"world-{name}"] = list(_rows(importlib.import_module(world).Knobs, f"{_PREFIX}WORLD_"))
    return found


def rendered(text: str) -> str:
    """The page with every table made anew. Raises KeyError for a part that does not exist."""
    rows = parts()

    def fill(match: re.Match[str]) -> str:
        table = ["| setting | default | meaning |", "| --- | --- | --- |", *rows[match["part"]]]
        return "\n".join((match[1] + "\n".join(table), match[3]))

    return _BLOCK.sub(fill, text)


def listed(text: str) -> list[str]:
    """The parts that a page has a table for."""
    return [match["part"] for match in _BLOCK.finditer(text)]


def _rows(kind: type[BaseModel], prefix: str) -> Iterator[str]:
    inherited = {name for parent in kind.__mro__[1:] if issubclass(parent, BaseModel) for name in parent.model_fields}
    for name, field in kind.model_fields.items():
        if name in inherited:
            continue
        if not field.description:
            raise Undescribed(f"{kind.__name__}.{name}")
        meaning = " ".join(field.description.split()).replace("|", "\\|")
        yield f"| `{prefix}{name.upper()}` | {_default(field)} | {meaning} |"


def _default(field: FieldInfo) -> str:
    value: Any = field.get_default(call_default_factory=True, validated_data={})
    if value is None or value in ("", ()):
        return "empty"
    if isinstance(value, Enum):
        value = value.value
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def main() -> None:
    PAGE.write_text(rendered(PAGE.read_text()))
    print(f"rendered {PAGE.name}")


if __name__ == "__main__":
    main()
