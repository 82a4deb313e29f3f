"""`mlflow`: MLflow's own page over the stack's registry, when somebody wants it."""

from __future__ import annotations

import os
import sys

from flywheel.contracts.settings import PlatformSettings
from infra.local.failures import CannotStart
from infra.local.ports import is_taken


def open_registry(settings: PlatformSettings, port: int) -> None:
    """Becomes MLflow's server on that port of this machine; raises CannotStart when the port is taken."""
    if is_taken(port):
        raise CannotStart(
            f"Port {port} is taken; name another: .venv/bin/python -m infra.local mlflow --port {port + 1}"
        )
    arguments = ["server", "--backend-store-uri", settings.mlflow_store, "--host", "127.0.0.1", "--port", str(port)]
    print(f"MLflow opens at http://127.0.0.1:{port} (Ctrl-C ends it)", flush=True)
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", *arguments, "--workers", "1"])
