"""Serving with a slow model, in a process of its own: `python -m tests.slow_serving <address> <metrics port> <folder>`.

Stores and log are in memory; everything between the port and the model is the real thing. The model takes a fixed time
a row, so that a load generator beside it can ask for many times what it answers.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
import time
from pathlib import Path
from unittest.mock import patch

import numpy as np
import uvloop
from numpy.typing import NDArray

from flywheel.adapters.memory_decision_log import MemoryDecisionLog
from flywheel.adapters.memory_model_store import MemoryModelStore
from flywheel.adapters.memory_store import MemoryFeatureStore
from flywheel.adapters.onnx_scorer import OnnxScorer
from flywheel.kernel.ports import Lane, StoreProgress
from services.serving import bootstrap
from services.serving.settings import ServingSettings
from tests.serving_parts import PLAN, USECASE, deploy, publish

ROW_S = 0.002


class SlowScorer(OnnxScorer):
    """Takes two milliseconds a row."""

    def score(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        until_s = time.perf_counter() + ROW_S * len(rows)
        scores = super().score(rows)
        while time.perf_counter() < until_s:
            pass
        return scores


async def serve(address: str, metrics_port: int, folder: Path) -> None:
    """Answers until SIGTERM."""
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    features, models = MemoryFeatureStore(PLAN), MemoryModelStore()
    now_us = time.time_ns() // 1000
    features.absorb({0: 1}, None)
    features.report(Lane.TILES, StoreProgress(now_us + 3_600_000_000, now_us + 3_600_000_000))
    publish(models, "v1")
    deploy(models, "v1")
    settings = ServingSettings(
        _env_file=None,
        data_dir=folder,
        serving_address=address,
        serving_rest_address="",
        serving_metrics_port=metrics_port,
    )
    log = MemoryDecisionLog(on_acknowledged=lambda: None, on_lost=lambda _: None)
    server = bootstrap.build(settings, USECASE, reader=features.reader(), store=models, log=log)
    await server.start()
    gc.collect()
    gc.freeze()
    await told.wait()
    await server.stop()


if __name__ == "__main__":
    # The composition root chooses the engine of models by this name; there is no other way to have a slow one.
    with patch.object(bootstrap, "OnnxScorer", SlowScorer):
        uvloop.run(serve(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])))
