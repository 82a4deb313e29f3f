"""What a decision costs without the port: the decision core on its reader against one HMGET and one model run."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnxruntime
import redis
import redis.asyncio
import uvloop

from benchmarks.card_scoring import usecase
from benchmarks.figures import Figure
from benchmarks.paired import Side, frozen, latencies_ms
from benchmarks.serving_bench import Pace
from benchmarks.serving_scene import Scene
from benchmarks.serving_servers import cards, subjects
from flywheel.adapters import feast_layout
from flywheel.adapters.feast_keys import EntityKeys
from flywheel.adapters.onnx_scorer import OnnxScorer
from flywheel.adapters.redis_store import RedisFeatureReader
from flywheel.adapters.request_ids import new_id
from flywheel.kernel.decision import Decided, Decider, DecisionRequest
from flywheel.kernel.lineup import Lineup, LoadedModel
from flywheel.kernel.plan import compile_plan
from flywheel.kernel.stored import JoinKey
from flywheel.kernel.timing import Clock

_TOGETHER = 64
_ROUNDS, _TURN = 100, 20
_TOLERANCE = 1e-6
_DOUBLE = struct.Struct("<d")
_TABLE = usecase.attribute_tables[0]
_VIEW = _TABLE.view(usecase.name)

GOALS = {"data_plane_vs_floor": "<= 1.5"}


class _Silent:
    """Nobody listens to what goes wrong; the check of the scores would find it."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **__: None


class Floor:
    """HMGET of the features alone, keys encoded beforehand, and the model; one request or several at once."""

    def __init__(self, scene: Scene) -> None:
        self._sync: Any = redis.Redis(port=scene.redis_port)
        self._async: Any = redis.asyncio.Redis(port=scene.redis_port)
        keys = EntityKeys(usecase.name, [JoinKey("card_id")])
        self._keys = keys.encode([list(cards())])
        self._fields = [feast_layout.value_field(_VIEW.name, _TABLE.stored_name(column)) for column in _TABLE.columns]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session: Any = onnxruntime.InferenceSession(scene.model, options, providers=["CPUExecutionProvider"])

    def ask(self, number: int) -> Any:
        return self._scores([self._sync.hmget(self._keys[number % len(self._keys)], self._fields)])

    async def ask_async(self, number: int) -> Any:
        return self._scores([await self._async.hmget(self._keys[number % len(self._keys)], self._fields)])

    async def ask_together(self, number: int) -> Any:
        pipe = self._async.pipeline(transaction=False)
        for place in range(number * _TOGETHER, (number + 1) * _TOGETHER):
            pipe.hmget(self._keys[place % len(self._keys)], self._fields)
        return self._scores(await pipe.execute())

    async def close(self) -> None:
        await self._async.aclose()
        self._sync.close()

    def _scores(self, stored: Sequence[Sequence[bytes]]) -> Any:
        unpack = _DOUBLE.unpack_from
        rows = np.array([[unpack(value, 1)[0] for value in each] for each in stored], np.float32)
        return self._session.run(None, {"features": rows})[0]


def measure(scene: Scene, pace: Pace) -> dict[str, Figure]:
    """Ratios of medians of latencies; ours and the floor take turns in one process, one request at a time."""
    return uvloop.run(_measured(scene, pace))


def decider_on(scene: Scene) -> tuple[Decider, RedisFeatureReader]:
    """The decision core on the scene's Redis and model, and its reader, to be closed."""
    reader = RedisFeatureReader(f"redis://127.0.0.1:{scene.redis_port}/0", compile_plan(usecase))
    model = LoadedModel("v1", OnnxScorer(scene.model))
    clock = Clock(wall_us=lambda: time.time_ns() // 1000, steady_s=time.perf_counter)
    observer: Any = _Silent()
    lineup = Lineup(model)
    return Decider(usecase, reader, lambda: lineup, clock=clock, new_id=new_id, observer=observer), reader


def requests() -> list[DecisionRequest]:
    """What is asked, by number."""
    return [DecisionRequest(subject) for subject in subjects(cards())]


async def _measured(scene: Scene, pace: Pace) -> dict[str, Figure]:
    decider, reader = decider_on(scene)
    asked = requests()
    floor = Floor(scene)

    async def ours(number: int) -> Any:
        return await decider.decide([asked[number % len(asked)]])

    async def ours_together(number: int) -> Any:
        places = range(number * _TOGETHER, (number + 1) * _TOGETHER)
        return await decider.decide([asked[place % len(asked)] for place in places])

    single = {"ours": Side(ours, True), "sync": Side(floor.ask, False), "async": Side(floor.ask_async, True)}
    together = {"ours": Side(ours_together, True), "async": Side(floor.ask_together, True)}
    try:
        for number in range(3):
            _check(await ours(number), floor.ask(number))
            _check(await ours_together(number), await floor.ask_together(number))
        await latencies_ms(single, 5, _TURN)
        await latencies_ms(together, 5, _TURN)
        with frozen():
            one_ms = await latencies_ms(single, round(_ROUNDS * pace.share), _TURN)
            many_ms = await latencies_ms(together, round(_ROUNDS * pace.share) // 4, _TURN)
    finally:
        await asyncio.gather(floor.close(), reader.close())
    p50 = {name: float(np.median(each)) for name, each in one_ms.items()}
    p50_many = {name: float(np.median(each)) for name, each in many_ms.items()}
    return {
        "data_plane_vs_floor": round(p50["ours"] / min(p50["sync"], p50["async"]), 3),
        "data_plane_64_vs_floor_64": round(p50_many["ours"] / p50_many["async"], 3),
        **{f"data_plane_{name}_p50_ms": round(each, 4) for name, each in p50.items()},
        **{f"data_plane_64_{name}_p50_ms": round(each, 4) for name, each in p50_many.items()},
        "data_plane_samples_a_side": len(one_ms["ours"]),
    }


def _check(decisions: Sequence[Any], scores: Any) -> None:
    """Raises AssertionError unless ours decides by the scores that the floor has."""
    for decision, score in zip(decisions, scores, strict=True):
        assert isinstance(decision, Decided), decision
        assert decision.fallback == "none", decision.fallback
        assert abs(decision.score - float(score)) <= _TOLERANCE
