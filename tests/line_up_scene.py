"""Line-ups that follow a deployment log in memory, for tests of what is served."""

from __future__ import annotations

from flywheel.adapters.memory_model_store import MemoryModelStore
from flywheel.adapters.onnx_scorer import OnnxScorer
from services.serving.models.line_up import Models
from services.serving.models.loading import MakeScorer
from tests.serving_parts import USECASE


def following(store: MemoryModelStore, make_scorer: MakeScorer = OnnxScorer) -> Models:
    return Models(USECASE, store, make_scorer, on_swap=lambda: None)


def versions(models: Models) -> list[str]:
    return [model.version for _, model in models.lineup().models()]


def flipped(store: MemoryModelStore, version: str) -> None:
    manifest, model = store.models["fraud", version]
    store.models["fraud", version] = (manifest, model[:-1] + bytes([model[-1] ^ 1]))
