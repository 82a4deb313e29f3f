"""What serving is compared with: how each is started, and how it is asked for the score of a card."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from struct import unpack

import orjson

from benchmarks.card_scoring import usecase
from benchmarks.figures import ROOT
from benchmarks.serving_probes import HttpOk, HttpScores, Listens
from benchmarks.serving_processes import HOME, python_of, running
from benchmarks.serving_scene import Scene
from benchmarks.serving_servers import CONNECTIONS, MESSAGES, TIMEOUT_S, Running, cards
from flywheel.contracts.proto.inference_pb2 import ModelInferRequest, ModelInferResponse
from infra.local.readiness import Probe
from infra.local.side_by_side import free_ports
from loadtests.generator.grpc_pool import GrpcPool
from loadtests.generator.http1_pool import Http1Pool

PEERS = ROOT / "benchmarks" / "serving_peers"

_ECHO = 128


@contextmanager
def echo(scene: Scene) -> Iterator[Running]:
    """A bare echo of grpc.aio on uvloop."""
    (port,) = free_ports(1)
    address = f"127.0.0.1:{port}"
    command = [python_of("floor"), str(PEERS / "echo.py"), str(port)]
    messages = [b"%0*d" % (_ECHO, n) for n in range(MESSAGES)]
    with running("echo", command, Listens(address), told=scene.peer_environment) as process:
        yield _raw_grpc("echo", address, "/floor.Floor/Ask", messages, lambda _: 0.0, process.pid)


@contextmanager
def own_echo(scene: Scene) -> Iterator[Running]:
    """A bare echo of our own transport."""
    (port,) = free_ports(1)
    address = f"127.0.0.1:{port}"
    command = [sys.executable, "-m", "benchmarks.serving_own_echo", str(port)]
    messages = [b"%0*d" % (_ECHO, n) for n in range(MESSAGES)]
    with running("own_echo", command, Listens(address), told=scene.peer_environment) as process:
        yield _raw_grpc("own_echo", address, "/floor.Floor/Ask", messages, lambda _: 0.0, process.pid)


@contextmanager
def floor(scene: Scene) -> Iterator[Running]:
    """grpc.aio on uvloop, one HMGET, ONNX Runtime, and nothing else."""
    (port,) = free_ports(1)
    address = f"127.0.0.1:{port}"
    command = [python_of("floor"), str(PEERS / "floor.py"), str(port), str(scene.redis_port)]
    messages = [card_id.encode() for card_id in cards()]
    with running("floor", command, Listens(address), told=scene.peer_environment) as process:
        score = lambda message: float(unpack("<d", message)[0])  # noqa: E731
        yield _raw_grpc("floor", address, "/floor.Floor/Ask", messages, score, process.pid)


def _raw_grpc(
    name: str, address: str, method: str, messages: Sequence[bytes], score: Callable[[bytes], float], pid: int
) -> Running:
    pool = lambda: GrpcPool(address, method, messages, connections=CONNECTIONS, timeout_s=TIMEOUT_S)  # noqa: E731
    return Running(name, address, pool, score, pid)


@contextmanager
def fastapi_feast(scene: Scene, way: str = "async") -> Iterator[Running]:
    """FastAPI, Feast's SDK (its sync or its async way) and ONNX Runtime."""
    (port,) = free_ports(1)
    command = [python_of("fastapi"), str(PEERS / "fastapi_feast.py"), str(port), way]
    with _http(scene, f"fastapi_feast_{way}", command, port) as server:
        yield server


@contextmanager
def bentoml(scene: Scene) -> Iterator[Running]:
    """BentoML, one worker."""
    (port,) = free_ports(1)
    program = str(Path(python_of("bentoml")).with_name("bentoml"))
    command = [program, "serve", "bentoml_feast:CardScoring", "--host", "127.0.0.1", "--port", str(port)]
    told = {"BENTOML_HOME": str(HOME / "bentoml"), "BENTOML_DO_NOT_TRACK": "True"}
    with _http(scene, "bentoml", command, port, told=told) as server:
        yield server


@contextmanager
def litserve(scene: Scene) -> Iterator[Running]:
    """LitServe, one worker."""
    (port,) = free_ports(1)
    command = [python_of("litserve"), str(PEERS / "litserve_feast.py"), str(port)]
    with _http(scene, "litserve", command, port, path="/predict") as server:
        yield server


@contextmanager
def _http(
    scene: Scene, name: str, command: list[str], port: int, *, path: str = "/score", told: dict[str, str] | None = None
) -> Iterator[Running]:
    address = f"127.0.0.1:{port}"
    bodies = [orjson.dumps({"card_id": card_id}) for card_id in cards()]
    ready: Probe = HttpScores(f"http://{address}{path}", bodies[0])
    environment = scene.peer_environment | (told or {})
    with running(name, command, ready, told=environment, directory=PEERS) as process:
        score = lambda message: float(orjson.loads(message)["score"])  # noqa: E731
        yield Running(name, address, lambda: Http1Pool(address, path, bodies), score, process.pid)


@contextmanager
def mlserver(scene: Scene) -> Iterator[Running]:
    """MLServer over gRPC, in one process."""
    rest, port, metrics = free_ports(3)
    address = f"127.0.0.1:{port}"
    directory = HOME / "mlserver"
    directory.mkdir(parents=True, exist_ok=True)
    settings = {
        "host": "127.0.0.1",
        "http_port": rest,
        "grpc_port": port,
        "metrics_port": metrics,
        "parallel_workers": 0,
        "debug": False,
    }
    (directory / "settings.json").write_text(json.dumps(settings))
    model = {"name": usecase.name, "implementation": "mlserver_feast.CardScoring"}
    (directory / "model-settings.json").write_text(json.dumps(model))
    program = str(Path(python_of("mlserver")).with_name("mlserver"))
    told = scene.peer_environment | {"PYTHONPATH": str(PEERS)}
    ready = HttpOk(f"http://127.0.0.1:{rest}/v2/models/{usecase.name}/ready")
    with running("mlserver", [program, "start", str(directory)], ready, told=told, directory=directory) as process:
        method = "/inference.GRPCInferenceService/ModelInfer"
        yield _raw_grpc("mlserver", address, method, _inferences(), _inferred, process.pid)


def _inferences() -> list[bytes]:
    found = []
    for card_id in cards():
        asked = ModelInferRequest(model_name=usecase.name)
        tensor = asked.inputs.add(name="card_id", datatype="BYTES", shape=[1])
        tensor.contents.bytes_contents.append(card_id.encode())
        found.append(asked.SerializeToString())
    return found


def _inferred(message: bytes) -> float:
    (output,) = ModelInferResponse.FromString(message).outputs
    return float(output.contents.fp64_contents[0])
