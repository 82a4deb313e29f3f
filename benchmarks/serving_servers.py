"""The servers that are compared: how each is started, and how it is asked for the score of a card."""

from __future__ import annotations

import json
import sys
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from struct import unpack

import grpc
import orjson

from benchmarks.card_scoring import usecase
from benchmarks.figures import ROOT
from benchmarks.serving_processes import HOME, SERVER_CORE, checkout, python_of, running
from benchmarks.serving_scene import CARDS, Scene
from flywheel.contracts.proto.decision_pb2 import DecideRequest, DecideResponse
from flywheel.contracts.proto.inference_pb2 import ModelInferRequest, ModelInferResponse
from infra.local.readiness import HttpReady, Probe
from infra.local.side_by_side import free_ports
from loadtests.grpc_pool import GrpcPool
from loadtests.http1_pool import Http1Pool

PEERS = ROOT / "benchmarks" / "serving_peers"
MESSAGES = 4_096
"""Different requests that are sent over and over."""
DECIDE = "/flywheel.v1.Decisions/Decide"

CONNECTIONS = 8
TIMEOUT_S = 1.0
_ECHO = 128

AnyPool = GrpcPool | Http1Pool


@dataclass(frozen=True)
class Running:
    """A server that answers."""

    name: str
    address: str
    pool: Callable[[], AnyPool]
    """Connections to it, yet to be opened; request number n is about card n modulo `MESSAGES`."""
    score: Callable[[bytes], float]
    """What an answer says."""
    pid: int = 0
    settings: dict[str, str] = field(default_factory=dict)


@asynccontextmanager
async def opened(server: Running) -> AsyncIterator[AnyPool]:
    """Connections to it, open; closed at the end."""
    pool = server.pool()
    await pool.open()
    try:
        yield pool
    finally:
        await pool.close()


def cards() -> Iterator[str]:
    """Whom the requests are about, in their order."""
    return (f"card-{n % CARDS}" for n in range(MESSAGES))


@dataclass(frozen=True)
class Listens:
    """A plain connection is taken, and something that answers for the whole is ready."""

    address: str

    def __call__(self) -> bool:
        try:
            grpc.channel_ready_future(channel := grpc.insecure_channel(self.address)).result(timeout=1.0)
        except grpc.FutureTimeoutError:
            return False
        finally:
            channel.close()
        return True

    def detail(self) -> str:
        return ""


@dataclass(frozen=True)
class HttpScores:
    """A POST is answered with 200."""

    url: str
    body: bytes

    def __call__(self) -> bool:
        asked = urllib.request.Request(self.url, self.body, {"content-type": "application/json"})
        try:
            with urllib.request.urlopen(asked, timeout=2.0) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def detail(self) -> str:
        return ""


@contextmanager
def ours(scene: Scene, *, cores: str = SERVER_CORE, told: dict[str, str] | None = None) -> Iterator[Running]:
    """The serving service as users start it, everything on."""
    tree = checkout(usecase.name, "from benchmarks.card_scoring import usecase as usecase")
    with serving(scene, usecase.name, tree, cores=cores, told=told or {}) as (pid, settings):
        address, requests = settings["FLYWHEEL_SERVING_ADDRESS"], decisions(cards())
        yield Running(
            "ours",
            address,
            lambda: GrpcPool(
                address, DECIDE, requests, connections=CONNECTIONS, timeout_s=TIMEOUT_S, judge=by_the_model
            ),
            lambda message: float(DecideResponse.FromString(message).score),
            pid,
            settings,
        )


@contextmanager
def serving(
    scene: Scene, name: str, tree: Path, *, cores: str = SERVER_CORE, told: dict[str, str] | None = None
) -> Iterator[tuple[int, dict[str, str]]]:
    """The process id and the settings of the serving service of that use case, started in that checkout."""
    settings = {**scene.settings, "FLYWHEEL_USECASE": name, "FLYWHEEL_WORLD_ENABLED": "false", **(told or {})}
    ready = HttpReady(f"http://127.0.0.1:{settings['FLYWHEEL_SERVING_METRICS_PORT']}/readyz")
    command = [sys.executable, "-m", "services.serving"]
    with running(name, command, ready, cores=cores, told=settings, directory=tree) as process:
        yield process.pid, settings


_NO_FALLBACK = DecideResponse(fallback="none").SerializeToString()


def by_the_model(message: bytes) -> bool:
    """Whether an answer of ours is no fallback; as cheap as it has to be in a load generator."""
    return _NO_FALLBACK in message


def subjects(of: Iterator[str]) -> Iterator[bytes]:
    """Payments of these cards, now."""
    now = datetime.now(UTC).isoformat()
    for number, card_id in enumerate(of):
        yield orjson.dumps({"event_id": f"p{number}", "event_time": now, "card_id": card_id, "amount_cents": 4_200})


def decisions(of: Iterator[str]) -> list[bytes]:
    """Requests for decisions about these cards, now."""
    return [DecideRequest(usecase=usecase.name, subject=each).SerializeToString() for each in subjects(of)]


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


@dataclass(frozen=True)
class HttpOk:
    """A GET is answered with 200."""

    url: str

    def __call__(self) -> bool:
        try:
            with urllib.request.urlopen(self.url, timeout=2.0) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def detail(self) -> str:
        return ""


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
