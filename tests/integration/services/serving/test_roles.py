"""Roles on the real server and real models: swaps under load, a canary that fails, a shadow that nobody notices."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import grpc
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from prometheus_client import REGISTRY

from flywheel.adapters.file_model_store import FileModelStore
from flywheel.adapters.memory_decision_log import MemoryDecisionLog
from flywheel.adapters.memory_store import MemoryFeatureStore
from flywheel.contracts.decisions import DecisionLogged
from flywheel.contracts.proto.decision_pb2 import DecideRequest, DecideResponse
from flywheel.contracts.proto.decision_pb2_grpc import DecisionsStub
from flywheel.contracts.shadows import ShadowScored
from flywheel.kernel.ports import Lane, StoreProgress
from services.monitor.arms import Arms
from services.monitor.rollout import CanaryWatch
from services.serving.bootstrap import CLOCK, build
from services.serving.models.arms import STOPPED_AFTER
from services.serving.server import Server
from services.serving.settings import ServingSettings
from tests.serving_parts import PLAN, USECASE, deploy, manifest_of, payment, publish

SWAPS = 100
# Nothing here is about time: a machine that runs other tests as well may be late with any answer.
PATIENT = dataclasses.replace(
    USECASE, budget=dataclasses.replace(USECASE.budget, total_ms=20_000, features_ms=5_000, model_ms=5_000)
)


@dataclass
class Running:
    """A server on real models and an in-memory feature store, and a client of it."""

    server: Server
    store: FileModelStore
    stub: DecisionsStub
    decided: MemoryDecisionLog
    shadowed: MemoryDecisionLog
    failed: list[grpc.aio.AioRpcError] = field(default_factory=list)

    async def decide(self, card: str) -> DecideResponse:
        answer: DecideResponse = await self.stub.Decide(
            DecideRequest(usecase="fraud", subject=payment(card_id=card, event_id=f"tx-{card}")), timeout=20.0
        )
        return answer

    async def serves(self, words: str) -> None:
        """Returns once serving says so of itself."""
        await until(lambda: words in self.server.ready()[1])


async def until(holds: Callable[[], bool], within_s: float = 20.0) -> None:
    async with asyncio.timeout(within_s):
        while not holds():
            await asyncio.sleep(0.002)


def log() -> MemoryDecisionLog:
    return MemoryDecisionLog(on_acknowledged=lambda: None, on_lost=lambda _: None)


@asynccontextmanager
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    store, features = FileModelStore(tmp_path / "models"), MemoryFeatureStore(PLAN)
    decided, shadowed = log(), log()
    now_us = CLOCK.wall_us()
    features.progress = {Lane.EDGE: StoreProgress(now_us + 3_600_000_000, now_us)}
    for number in range(4):
        publish(store, f"v{number}", bias=-5.0 - number)
    deploy(store, "v0")
    settings = ServingSettings(
        _env_file=None,
        data_dir=tmp_path,
        serving_address="127.0.0.1:0",
        serving_rest_address="",
        serving_metrics_port=0,
        serving_model_poll_s=0.005,
    )
    server = build(
        settings, PATIENT, reader=features.reader(), store=store, log=decided, open_shadow_log=lambda: shadowed
    )
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            yield Running(server, store, DecisionsStub(channel), decided, shadowed)
    finally:
        await server.stop()


async def test_a_hundred_swaps_of_every_role_under_load_fail_no_request(tmp_path: Path) -> None:
    async with running(tmp_path) as scene:
        stop, versions = asyncio.Event(), Counter[str]()

        async def load(caller: int) -> None:
            number = 0
            while not stop.is_set():
                number += 1
                try:
                    versions[(await scene.decide(f"c{caller}-{number}")).model_version] += 1
                except grpc.aio.AioRpcError as error:
                    scene.failed.append(error)

        callers = [asyncio.create_task(load(caller)) for caller in range(4)]
        for swap in range(SWAPS):
            champion, canary, shadow = (f"v{(swap + place) % 4}" for place in (1, 2, 3))
            deploy(scene.store, champion, canary=canary, canary_share=0.25, shadow=shadow)
            await scene.serves(f"model {champion}")
        stop.set()
        await asyncio.gather(*callers)
        assert scene.failed == []
        assert versions.keys() >= {"v0", "v1", "v2", "v3"}
        assert scene.server.ready()[1] == f"model v{SWAPS % 4}"


def failing_model() -> bytes:
    """sigmoid(sqrt(100 - the largest feature)): a number for small features, NaN for those that live traffic has."""
    names = USECASE.feature_names
    nodes = [
        helper.make_node("ReduceMax", ["features", "axes"], ["largest"], keepdims=1),
        helper.make_node("Sub", ["bound", "largest"], ["room"]),
        helper.make_node("Sqrt", ["room"], ["root"]),
        helper.make_node("Sigmoid", ["root"], ["probability"]),
    ]
    graph = helper.make_graph(
        nodes,
        "failing",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", len(names)])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["n", 1])],
        [
            numpy_helper.from_array(np.array([1], np.int64), "axes"),
            numpy_helper.from_array(np.array([100.0], np.float32), "bound"),
        ],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(made)
    return bytes(made.SerializeToString())


async def test_a_canary_that_fails_on_live_traffic_is_stopped_here_and_taken_back_for_all(tmp_path: Path) -> None:
    async with running(tmp_path) as scene:
        broken = failing_model()
        scene.store.publish(manifest_of("broken", broken), broken)
        deploy(scene.store, "v1", canary="broken", canary_share=0.5)
        await scene.serves("model v1")
        answers = [await scene.decide(f"c{number}") for number in range(60)]
        by_rule = [answer for answer in answers if answer.model_version != "v1"]
        assert len(by_rule) == STOPPED_AFTER
        assert {(answer.arm, answer.fallback) for answer in by_rule} == {("canary", "model_unavailable")}
        assert {answer.arm for answer in answers[-20:]} == {"champion"}
        assert "stopped here: broken" in scene.server.ready()[1]

        arms = Arms()
        for unit, value in scene.decided.records:
            arms.add(DecisionLogged.model_validate_json(value), unit.decode())
        monitor = CanaryWatch(USECASE, scene.store, arms, enabled=True)
        monitor.consider(scene.store.current("fraud"), datetime.now(UTC))
        newest = scene.store.deployments("fraud")[-1]
        assert (newest.canary, newest.withdrawn, newest.deployed_by) == (None, "broken", "monitor")
        assert "its model failed in 5 of 5 runs" in newest.reason
        await until(lambda: scene.server.ready()[1] == "model v1")


async def test_a_shadow_scores_every_decision_and_changes_none(tmp_path: Path) -> None:
    async with running(tmp_path) as scene:
        before = {card: (await scene.decide(card)).score for card in map("c{}".format, range(20))}
        deploy(scene.store, "v0", shadow="v3")
        loaded = ("flywheel_serving_model_loaded", {"usecase": "fraud", "role": "shadow", "version": "v3"})
        await until(lambda: REGISTRY.get_sample_value(*loaded) == 1)
        answers = {card: await scene.decide(card) for card in before}
        assert {card: answer.score for card, answer in answers.items()} == before
        await until(lambda: len(scene.shadowed.records) == len(before))
        scored = [ShadowScored.model_validate_json(value) for _, value in scene.shadowed.records]
        served = {answer.decision_id: answer.score for answer in answers.values()}
        assert {one.decision_id: one.served_score for one in scored} == served
        assert {(one.version, one.served_version) for one in scored} == {("v3", "v0")}
        # Three lower in log odds than the champion.
        assert all(one.score < 0.1 * one.served_score for one in scored)
