"""A caller who asks gets the contributions of the model that decided, and they add up to the score."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path

import grpc
import lightgbm
import numpy as np
import pytest

from flywheel.adapters.file_model_store import FileModelStore
from flywheel.adapters.memory_decision_log import MemoryDecisionLog
from flywheel.adapters.memory_store import MemoryFeatureStore
from flywheel.adapters.onnx_export import export_boosted
from flywheel.client.console import render_decision
from flywheel.contracts.proto.decision_pb2 import DecideRequest, DecideResponse
from flywheel.contracts.proto.decision_pb2_grpc import DecisionsStub
from flywheel.kernel.ports import Lane, StoreProgress
from services.serving.bootstrap import build
from services.serving.settings import ServingSettings
from tests.engines import free_port
from tests.serving_parts import PLAN, USECASE, deploy, manifest_of, payment

PATIENT = replace(USECASE, budget=replace(USECASE.budget, total_ms=5_000, explain_ms=5_000))
"""However busy the machine that tests."""
FEATURES = len(USECASE.feature_names)


def boosted() -> bytes:
    draw = np.random.default_rng(1)
    values = draw.uniform(0, 10_000, (1_500, FEATURES)).astype(np.float32)
    amount = values[:, USECASE.feature_names.index("amount_cents")]
    truth = (amount + draw.normal(0, 500, 1_500) > 4_000) * 1
    settings = {"objective": "binary", "num_leaves": 15, "verbosity": -1, "num_threads": 1}
    booster = lightgbm.train(settings, lightgbm.Dataset(values, truth), 20)
    return export_boosted(booster.dump_model(), 0.9, -0.1)


@pytest.mark.engine
async def test_contributions_come_with_the_answer_and_add_up(tmp_path: Path) -> None:
    store, model = FileModelStore(tmp_path / "models"), boosted()
    store.publish(manifest_of("v1", model), model)
    deploy(store, "v1")
    port = free_port()
    settings = ServingSettings(
        _env_file=None,
        data_dir=tmp_path,
        serving_address=f"127.0.0.1:{port}",
        serving_rest_address="",
        serving_metrics_port=free_port(),
    )
    features = MemoryFeatureStore(PLAN)
    now_us = time.time_ns() // 1_000
    features.progress = {Lane.EDGE: StoreProgress(now_us + 3_600_000_000, now_us)}
    log = MemoryDecisionLog(on_acknowledged=lambda: None, on_lost=lambda _: None)
    server = build(settings, PATIENT, reader=features.reader(), store=store, log=log)
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            decide = DecisionsStub(channel).Decide
            request = DecideRequest(usecase="fraud", subject=payment(amount_cents=9_000), explain=FEATURES)
            answer: DecideResponse = await decide(request, timeout=15)
            plain: DecideResponse = await decide(DecideRequest(usecase="fraud", subject=payment()), timeout=15)
    finally:
        await server.stop()
    assert (answer.unexplained, answer.fallback) == ("", "none")
    assert answer.contributions[0].feature == "amount_cents"
    assert len(answer.contributions) == FEATURES
    total = answer.contribution_base + sum(part.value for part in answer.contributions)
    assert 1 / (1 + math.exp(-total)) == pytest.approx(answer.score, abs=1e-6)
    assert not plain.contributions
    shown = render_decision(USECASE, answer).split("moves the score")[1].splitlines()
    assert [line.split()[0] for line in shown[1:3]] == ["(knowing", "amount_cents"]
