"""FastAPI, Feast's SDK and ONNX Runtime rank items for a user: `python fastapi_rank.py PORT sync|async`."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import uvicorn
from fastapi import FastAPI
from feast import FeatureStore
from pydantic import BaseModel

_WARM_CALLS = 20


class Ask(BaseModel):
    user_id: str
    item_ids: list[str]
    keep: int


class Answer(BaseModel):
    item_ids: list[str]
    scores: list[float]


class Ranker:
    """Reads the user and all items by Feast's SDK, and runs the model once."""

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

    def rank(self, ask: Ask) -> Answer:
        """The best items, best first."""
        return self._best(ask, self._store.get_online_features(self._features, _rows(ask)))

    async def rank_async(self, ask: Ask) -> Answer:
        """The same, while others are served."""
        return self._best(ask, await self._store.get_online_features_async(self._features, _rows(ask)))

    def _best(self, ask: Ask, answer: Any) -> Answer:
        found = answer.to_dict()
        rows = np.array([found[name] for name in self._columns], np.float32).T
        scores = self._session.run(None, {"features": np.ascontiguousarray(rows)})[0]
        order = np.argsort(-scores, kind="stable")[: ask.keep]
        return Answer(item_ids=[ask.item_ids[place] for place in order], scores=scores[order].tolist())


def _rows(ask: Ask) -> dict[str, list[str]]:
    return {"user_id": [ask.user_id] * len(ask.item_ids), "item_id": ask.item_ids}


def app_of(way: str) -> FastAPI:
    """The application; what it reads by Feast it reads that way."""
    ranker = Ranker()
    sample = Ask(user_id="user-1", item_ids=[f"item-{number}" for number in range(200)], keep=20)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        for _call in range(_WARM_CALLS):
            if way == "async":
                await ranker.rank_async(sample)
            else:
                ranker.rank(sample)
        gc.collect()
        gc.freeze()
        yield

    app = FastAPI(lifespan=lifespan)

    def rank_sync(ask: Ask) -> Answer:
        return ranker.rank(ask)

    async def rank_async(ask: Ask) -> Answer:
        return await ranker.rank_async(ask)

    app.post("/rank")(rank_async if way == "async" else rank_sync)
    return app


if __name__ == "__main__":
    app = app_of(sys.argv[2])
    uvicorn.run(app, port=int(sys.argv[1]), loop="uvloop", http="httptools", access_log=False, log_level="warning")
