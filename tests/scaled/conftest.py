"""One real stack, scaled out, for the tests of a file: `make up-scaled` on ports of its own, with a small world."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from flywheel.contracts.settings import PlatformSettings
from infra.local import balancer, leftovers, places
from infra.local.failures import CannotStart
from infra.local.sandbox import Sandbox, sandbox
from infra.local.side_by_side import free_cluster_ports
from infra.local.supervision import Supervisor

WORLD = {"customers": 600, "history_days": 60, "rate": 60}
SCALED = "SCALED=on"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A stack that is up. At the end it must come down without leaving anything behind."""
    made = scaled_out(sandbox(tmp_path_factory.mktemp("scaled"), world=WORLD))
    try:
        balancer.binary(PlatformSettings())
    except CannotStart as reason:
        pytest.skip(str(reason))
    started = made.run("make", "up-scaled", timeout_s=600)
    if started.returncode:
        made.run("make", "down", SCALED, timeout_s=180)
        pytest.fail(started.stdout[-5000:])
    print(started.stdout)
    yield made
    stopped = made.run("make", "down", SCALED, timeout_s=180)
    assert stopped.returncode == 0, stopped.stdout
    assert not Supervisor(made.settings).is_running()
    assert not leftovers.find(places.run_dir(made.settings))


def scaled_out(plain: Sandbox) -> Sandbox:
    """The same with what `make up-scaled` sets, on its own ports for Redis."""
    nodes = ",".join(f"127.0.0.1:{port}" for port in free_cluster_ports(3))
    more = {
        "FLYWHEEL_REDIS_URL": f"redis+cluster://{nodes}",
        "FLYWHEEL_EVENT_PARTITIONS": "6",
        "FLYWHEEL_EDGE_REPLICAS": "2",
        "FLYWHEEL_SPARK_WORKERS": "2",
        "FLYWHEEL_SERVING_REPLICAS": "2",
        "FLYWHEEL_PROMETHEUS": "off",
    }
    return replace(plain, environment={**plain.environment, **more})
