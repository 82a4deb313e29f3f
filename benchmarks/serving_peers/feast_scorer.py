"""What every peer does for a request: read thirty features of a card by Feast's SDK, and run the model.

`SCENE` names the directory of Feast's repository (`feature_store.yaml`), of `features.txt` and of `model.onnx`.
"""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from feast import FeatureStore

_WARM_CALLS = 50


class FeastScorer:
    """Scores cards; `score` and `score_async` do the same by Feast's two ways."""

    def __init__(self) -> None:
        scene = Path(os.environ["SCENE"])
        self._store: Any = FeatureStore(repo_path=str(scene))
        self._features = (scene / "features.txt").read_text().split()
        self._columns = [name.split(":")[1] for name in self._features]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session: Any = onnxruntime.InferenceSession(
            (scene / "model.onnx").read_bytes(), options, providers=["CPUExecutionProvider"]
        )

    def score(self, card_id: str) -> float:
        """The model's probability for that card."""
        return self._run(self._store.get_online_features(self._features, [{"card_id": card_id}]))

    async def score_async(self, card_id: str) -> float:
        """The same, while others are served."""
        return self._run(await self._store.get_online_features_async(self._features, [{"card_id": card_id}]))

    def warm(self) -> None:
        """Makes the first calls, and keeps the garbage collector from looking at what is there for good."""
        for number in range(_WARM_CALLS):
            self.score(f"card-{number}")
        self.freeze()

    async def warm_async(self) -> None:
        """As `warm`, on the running loop."""
        for number in range(_WARM_CALLS):
            await self.score_async(f"card-{number}")
        self.freeze()

    def freeze(self) -> None:
        gc.collect()
        gc.freeze()

    def _run(self, answer: Any) -> float:
        found = answer.to_dict()
        row = np.array([[found[name][0] for name in self._columns]], np.float32)
        return float(self._session.run(None, {"features": row})[0][0])
