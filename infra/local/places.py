"""Where things lie in the checkout and in the data directory."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from flywheel.contracts.settings import PlatformSettings
from infra.local.failures import CannotStart

ROOT = Path(__file__).resolve().parents[2]
JARS = ROOT / "infra" / "jars"
JAR_DIGESTS = ROOT / "infra" / "jars.sha256"
IVY_DECLARATION = ROOT / "infra" / "ivy.xml"
IVY_CACHE = ROOT / "build" / "ivy"
BROKER_LOGGING = ROOT / "infra" / "local" / "broker-log4j2.properties"


def run_dir(settings: PlatformSettings) -> Path:
    """Sockets, process ids and the generated supervisor declaration of one stack."""
    return settings.data_dir.absolute() / "run"


def log_dir(settings: PlatformSettings) -> Path:
    """One log file per process of one stack."""
    return settings.data_dir.absolute() / "logs"


def spark_jars() -> Path:
    """The directory of the jars that PySpark brings along, Ivy among them."""
    found = importlib.util.find_spec("pyspark")
    if found is None or found.origin is None:
        raise CannotStart("PySpark is not installed in this environment; run `make up`, which installs it")
    return Path(found.origin).parent / "jars"
