"""What Prometheus asks, how often, and which rules it evaluates: by address on one machine, elsewhere by name."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from flywheel.contracts.settings import PlatformSettings
from infra.local import scale

SCRAPE_INTERVAL = "5s"
EVALUATION_INTERVAL = "15s"
Document = dict[str, object]


def ports(settings: PlatformSettings) -> dict[str, int]:
    """The port of each part's `/metrics`; of what runs more than once, of the first."""
    world = {"world": settings.world_metrics_port} if settings.world_enabled else {}
    return {
        "ingest": _port(settings.ingest_url),
        "features": settings.features_metrics_port,
        "edge": settings.edge_metrics_port,
        "trainer": settings.trainer_metrics_port,
        "serving": settings.serving_metrics_port,
        "monitor": _port(settings.monitor_url),
        **world,
    }


def on_one_machine(settings: PlatformSettings, rules: str) -> Document:
    """The configuration for a stack on this machine; `rules` is a pattern of rule files."""
    several = {
        "serving": [replica.metrics_port for replica in scale.serving_replicas(settings)],
        "edge": list(scale.edge_replicas(settings).values()),
    }
    found = {name: several.get(name, [port]) for name, port in ports(settings).items()}
    jobs = [_fixed(name, *(f"127.0.0.1:{port}" for port in some)) for name, some in found.items()]
    return _document(jobs, rules)


def among_containers(settings: PlatformSettings) -> Document:
    """The configuration where each part is found by its name; serving may have replicas behind it."""
    found = ports(settings)
    jobs = [
        _looked_up(name, port) if name == "serving" else _fixed(name, f"{name}:{port}") for name, port in found.items()
    ]
    return _document(jobs, "rules/*.yml")


def _document(jobs: list[Document], rules: str) -> Document:
    return {
        "global": {"scrape_interval": SCRAPE_INTERVAL, "evaluation_interval": EVALUATION_INTERVAL},
        "rule_files": [rules],
        "scrape_configs": jobs,
    }


def _fixed(name: str, *targets: str) -> Document:
    return {"job_name": name, "static_configs": [{"targets": list(targets)}]}


def _looked_up(name: str, port: int) -> Document:
    lookup: Mapping[str, object] = {"names": [name], "type": "A", "port": port, "refresh_interval": SCRAPE_INTERVAL}
    return {"job_name": name, "dns_sd_configs": [dict(lookup)]}


def _port(url: str) -> int:
    return urlsplit(url).port or 80
