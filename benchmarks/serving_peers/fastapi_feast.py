"""FastAPI, Feast's SDK and ONNX Runtime: `python fastapi_feast.py PORT sync|async`."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI
from feast_scorer import FeastScorer
from pydantic import BaseModel


class Ask(BaseModel):
    card_id: str


class Answer(BaseModel):
    score: float


def app_of(way: str) -> FastAPI:
    """The application; what it reads by Feast it reads that way."""
    scorer = FeastScorer()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if way == "async":
            await scorer.warm_async()
        else:
            scorer.warm()
        yield

    app = FastAPI(lifespan=lifespan)

    def score_sync(ask: Ask) -> Answer:
        return Answer(score=scorer.score(ask.card_id))

    async def score_async(ask: Ask) -> Answer:
        return Answer(score=await scorer.score_async(ask.card_id))

    app.post("/score")(score_async if way == "async" else score_sync)
    return app


if __name__ == "__main__":
    app = app_of(sys.argv[2])
    uvicorn.run(app, port=int(sys.argv[1]), loop="uvloop", http="httptools", access_log=False, log_level="warning")
