"""Features by Feast's SDK and a model by ONNX Runtime: what every peer stands on.

`SCENE` names the directory of Feast's repository (`feature_store.yaml`), of `features.txt` and of `model.onnx`.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from feast import FeatureStore
from numpy.typing import NDArray

Entities = Sequence[Mapping[str, str]] | Mapping[str, Sequence[str]]
"""As Feast takes them: a mapping for each row, or a column for each join key."""


class FeastModel:
    """Scores entities; `scores` and `scores_async` read by Feast's two ways."""

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

    def scores(self, entities: Entities) -> NDArray[np.float32]:
        """The model's probability for each of them."""
        return self._run(self._store.get_online_features(self._features, entities))

    async def scores_async(self, entities: Entities) -> NDArray[np.float32]:
        """The same, while others are served."""
        return self._run(await self._store.get_online_features_async(self._features, entities))

    def _run(self, answer: Any) -> NDArray[np.float32]:
        found = answer.to_dict()
        rows = np.array([found[name] for name in self._columns], np.float32).T
        scores: NDArray[np.float32] = self._session.run(None, {"features": np.ascontiguousarray(rows)})[0]
        return scores


def freeze() -> None:
    """Keeps the garbage collector from looking at what is there for good; to be called once all is warm."""
    gc.collect()
    gc.freeze()
