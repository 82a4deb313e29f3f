"""FastAPI, Feast's SDK and ONNX Runtime rank items for a user: `python fastapi_rank.py PORT sync|async`."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import uvicorn
from fastapi import FastAPI
from feast_model import FeastModel, freeze
from numpy.typing import NDArray
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
        self._model = FeastModel()

    def rank(self, ask: Ask) -> Answer:
        """The best items, best first."""
        return _best(ask, self._model.scores(_pairs(ask)))

    async def rank_async(self, ask: Ask) -> Answer:
        """The same, while others are served."""
        return _best(ask, await self._model.scores_async(_pairs(ask)))


def _pairs(ask: Ask) -> dict[str, list[str]]:
    return {"user_id": [ask.user_id] * len(ask.item_ids), "item_id": ask.item_ids}


def _best(ask: Ask, scores: NDArray[np.float32]) -> Answer:
    order = np.argsort(-scores, kind="stable")[: ask.keep]
    return Answer(item_ids=[ask.item_ids[place] for place in order], scores=scores[order].tolist())


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
        freeze()
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
