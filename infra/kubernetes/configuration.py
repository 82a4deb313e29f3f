"""Writes the base's ConfigMaps from the settings as they are declared: `python -m infra.kubernetes configuration`.

Each file below `base/config` holds what a cluster sets otherwise than one machine does, with its meaning above it; all
other settings keep the defaults of docs/settings.md until an overlay says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from flywheel.contracts.settings import PlatformSettings
from infra.settings_reference import SETTINGS

BASE = Path(__file__).resolve().parent / "base"
PREFIX = "FLYWHEEL_"

ON_CLUSTERS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "platform": {
            "usecase": "fraud",
            "data_dir": "/var/lib/flywheel",
            "log_level": "INFO",
            "metrics_host": "0.0.0.0",
            "world_enabled": "false",
            "kafka_bootstrap": "kafka.kafka:9092",
            "ingest_url": "http://ingest:8081",
            "serving_address": "serving:50051",
            "serving_rest_address": "serving:8082",
            "monitor_url": "http://monitor:8080",
        },
        "ingest": {"ingest_url": "http://0.0.0.0:8081"},
        "features": {"spark_master": "local[2]", "spark_heap_mib": "1024"},
        "trainer": {"training_timeout_s": "2700"},
        "serving": {
            "serving_address": "0.0.0.0:50051",
            "serving_rest_address": "0.0.0.0:8082",
            "serving_workers": "1",
            "serving_drain_s": "5",
            "serving_connection_age_s": "300",
            "serving_spool_mib": "1024",
        },
        "monitor": {"monitor_url": "http://0.0.0.0:8080"},
    }
)
"""What each part reads, by the names of its settings. What a part says of its own wins over `platform`."""


class UnknownSetting(Exception):
    """A part has no setting of that name."""


def rendered(part: str) -> str:
    """The file of one part. Raises UnknownSetting, and pydantic's ValidationError for a value that it would refuse."""
    kind, values = SETTINGS[part], ON_CLUSTERS[part]
    if unknown := values.keys() - kind.model_fields.keys():
        raise UnknownSetting(f"{part} has no {', '.join(sorted(unknown))}")
    check(kind, {f"{PREFIX}{name.upper()}": value for name, value in values.items()})
    blocks = [
        f"# {' '.join((kind.model_fields[name].description or '').split())}\n{PREFIX}{name.upper()}={value}\n"
        for name, value in values.items()
    ]
    return "\n".join(blocks)


def check(kind: type[PlatformSettings], environment: Mapping[str, str]) -> PlatformSettings:
    """The settings that a process finds in this environment alone. Raises UnknownSetting and ValidationError."""
    known = {f"{PREFIX}{name.upper()}": name for name in kind.model_fields}
    own = {name: value for name, value in environment.items() if name.startswith(PREFIX)}
    if unknown := own.keys() - known.keys():
        raise UnknownSetting(f"{kind.__name__} has no {', '.join(sorted(unknown))}")
    aliases = {name: field.validation_alias for name, field in kind.model_fields.items()}
    return kind.model_validate(
        {key if aliases[known[key]] else known[key]: value for key, value in own.items()},
    )


def write() -> list[Path]:
    """Writes all files anew; their paths."""
    paths = []
    for part in ON_CLUSTERS:
        path = BASE / "config" / f"{part}.env"
        path.write_text(rendered(part))
        paths.append(path)
    return paths
