"""A model of MLServer: reads features by Feast's SDK and runs the model."""

from __future__ import annotations

import numpy as np
from feast_scorer import FeastScorer
from mlserver import MLModel
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.types import InferenceRequest, InferenceResponse


class CardScoring(MLModel):  # type: ignore[misc]
    """One card id in, one score out."""

    async def load(self) -> bool:
        self._scorer = FeastScorer()
        await self._scorer.warm_async()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        (card_id,) = StringCodec.decode_input(payload.inputs[0])
        score = await self._scorer.score_async(card_id)
        output = NumpyCodec.encode_output("score", np.array([score]))
        return InferenceResponse(model_name=self.name, outputs=[output])
