"""What a load test ran on: versions of what took part, and settings that are not as they come."""

from __future__ import annotations

import os
import platform
import re
from contextlib import closing
from importlib.metadata import PackageNotFoundError, version

import redis

from flywheel.adapters.redis_cluster_client import open_client
from flywheel.contracts.settings import PlatformSettings
from flywheel.kernel.ports import Unavailable
from infra.local import places
from services.serving.settings import ServingSettings

_PACKAGES = ("numpy", "onnxruntime", "uvloop", "redis", "confluent-kafka", "pyspark", "feast", "mlflow")
_PLACES = ("_dir", "_url", "_port", "_address", "_bootstrap")
_SECRET = re.compile(r"key|secret|password", re.IGNORECASE)


def versions(settings: PlatformSettings) -> dict[str, str]:
    """By name: the system's, the engines', the libraries'."""
    found = {platform.system(): platform.release(), "Python": platform.python_version()}
    broker = sorted(places.JARS.glob("broker/kafka_*.jar"))
    if broker:
        found["Kafka"] = broker[0].stem.rpartition("-")[2]
    found["Redis"] = _redis_version(settings)
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _redis_version(settings: PlatformSettings) -> str:
    try:
        with closing(open_client(settings.redis_url)) as client:
            told = client.nodes()[0].info("server")
    except (redis.RedisError, Unavailable):
        return "not reached"
    return str(told["redis_version"]) if isinstance(told, dict) else "not told"


def changed_settings(settings: PlatformSettings) -> dict[str, str]:
    """`FLYWHEEL_*` of the platform and of serving that differ from their defaults; no secrets and no places."""
    found: dict[str, str] = {}
    for each in (settings, ServingSettings()):
        for name, field in type(each).model_fields.items():
            value = getattr(each, name)
            if value != field.default and not _SECRET.search(name) and not name.endswith(_PLACES):
                found[f"FLYWHEEL_{name.upper()}"] = str(value)
    known = {name for name in os.environ if name.startswith("FLYWHEEL_WORLD_")}
    return found | {name: os.environ[name] for name in sorted(known)}
