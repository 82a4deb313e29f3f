"""A real Kafka broker on this machine: one node that is broker and controller (KRaft), its files below one directory.

`python -m infra.local.broker` formats the directory the first time and then becomes the broker.
"""

from __future__ import annotations

import base64
import subprocess
import uuid
from dataclasses import dataclass
from pathlib import Path

from flywheel.contracts.settings import PlatformSettings
from infra.local import places
from infra.local.becoming import become
from infra.local.failures import CannotStart
from infra.local.java import java

HEAP_MIB = 384
_HOST = "127.0.0.1"


@dataclass(frozen=True)
class Broker:
    """Where one broker listens and keeps its files. The controller's port serves only the broker itself."""

    directory: Path
    port: int
    controller_port: int

    @property
    def bootstrap(self) -> str:
        return f"{_HOST}:{self.port}"

    @property
    def properties_file(self) -> Path:
        return self.directory / "server.properties"

    @property
    def log_dir(self) -> Path:
        return self.directory / "log"


def of(settings: PlatformSettings) -> Broker:
    """The broker of a stack; the controller listens on the port after the broker's."""
    port = int(settings.kafka_bootstrap.rpartition(":")[2])
    return Broker(settings.data_dir.absolute() / "kafka", port, port + 1)


def properties(broker: Broker) -> dict[str, str]:
    """The broker's configuration. One node, so everything that is replicated elsewhere has one copy here."""
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@{_HOST}:{broker.controller_port}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://{_HOST}:{broker.port},CONTROLLER://{_HOST}:{broker.controller_port}",
        "advertised.listeners": f"PLAINTEXT://{_HOST}:{broker.port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": str(broker.log_dir),
        "auto.create.topics.enable": "false",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        # After kill -9 the controller admits the broker again only when its last session has run out.
        "broker.session.timeout.ms": "3000",
        "broker.heartbeat.interval.ms": "500",
        "group.initial.rebalance.delay.ms": "0",
        "log.cleaner.dedupe.buffer.size": "16777216",
        "num.network.threads": "2",
        "num.io.threads": "4",
        "background.threads": "4",
    }


def prepare(broker: Broker) -> None:
    """Writes the configuration and formats the storage, once; what the storage holds is never touched again."""
    broker.log_dir.mkdir(parents=True, exist_ok=True)
    lines = (f"{name}={value}\n" for name, value in properties(broker).items())
    broker.properties_file.write_text("".join(lines))
    if (broker.log_dir / "meta.properties").exists():
        return
    if any(path.is_dir() for path in broker.log_dir.iterdir()):
        raise CannotStart(
            f"{broker.log_dir} holds topics but no meta.properties, so the broker cannot trust it; "
            "restore that file or start afresh with `make clean`"
        )
    cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    # An id that starts with a dash reads as an option.
    command = _jvm(64, "kafka.tools.StorageTool", "format", f"--cluster-id={cluster_id}", "--config")
    done = subprocess.run(
        [*command, str(broker.properties_file)], capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode != 0:
        told = (done.stderr + done.stdout).strip().splitlines()
        raise CannotStart(
            f"The broker's storage {broker.log_dir} cannot be formatted: {told[-1] if told else 'no reason'}"
        )


def command(broker: Broker) -> list[str]:
    """The command that runs the prepared broker in the foreground until SIGTERM."""
    return _jvm(HEAP_MIB, "kafka.Kafka", str(broker.properties_file))


def _jvm(heap_mib: int, main: str, *arguments: str) -> list[str]:
    return [
        *(java(), f"-Xms{min(heap_mib, 128)}m", f"-Xmx{heap_mib}m", "-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError"),
        *("-Djava.awt.headless=true", f"-Dlog4j2.configurationFile={places.BROKER_LOGGING}"),
        *("-cp", f"{places.JARS / 'broker'}/*", main, *arguments),
    ]


def main() -> None:
    """Becomes the broker of the stack that the settings describe."""
    become(_prepared)


def _prepared() -> list[str]:
    broker = of(PlatformSettings())
    prepare(broker)
    return command(broker)


if __name__ == "__main__":
    main()
