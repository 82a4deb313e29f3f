"""Every file that is made from declarations, with the text that it must have."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from flywheel.contracts.settings import PlatformSettings
from infra.observability import dashboards, reference, scraping, slo_rules
from infra.observability.grafana_json import document

FOLDER = Path(__file__).resolve().parent
RULES = FOLDER / "prometheus" / "rules"
DASHBOARDS = FOLDER / "grafana" / "dashboards"
_DOCS = FOLDER.parents[1] / "docs"
_MADE = "# Made from the declarations by `python -m infra.observability`; a test holds it to them.\n"


def files() -> dict[Path, str]:
    """Path and text of each."""
    pages = {path: reference.rendered(path.read_text()) for path in (_DOCS / "metrics.md", _DOCS / "observability.md")}
    return {
        FOLDER / "prometheus" / "prometheus.yml": _yaml(scraping.among_containers(_defaults())),
        RULES / "objectives.yml": _yaml(slo_rules.groups()),
        **{DASHBOARDS / f"{each.name}.json": _json(document(each)) for each in dashboards.ALL},
        **pages,
    }


def _defaults() -> PlatformSettings:
    """The settings as they are declared, whatever the environment says."""
    return PlatformSettings.model_construct()


class _Plain(yaml.SafeDumper):
    """Writes what occurs twice twice: people read it."""

    def ignore_aliases(self, _: object) -> bool:
        return True


def _yaml(document: object) -> str:
    return _MADE + yaml.dump(document, Dumper=_Plain, sort_keys=False, width=1_000)


def _json(document: object) -> str:
    return json.dumps(document, indent=1) + "\n"
