"""A service of BentoML: reads features by Feast's SDK and runs the model."""

from __future__ import annotations

import bentoml
from feast_model import freeze
from feast_scorer import FeastScorer


@bentoml.service(workers=1, metrics={"enabled": False}, logging={"access": {"enabled": False}}, traffic={"timeout": 60})
class CardScoring:
    """One card id in, one score out."""

    def __init__(self) -> None:
        self._scorer = FeastScorer()
        self._asked = 0

    @bentoml.api  # type: ignore[untyped-decorator]
    async def score(self, card_id: str) -> dict[str, float]:
        self._asked += 1
        if self._asked == 100:
            # After a warm-up, so that nothing of it is scanned again and again.
            freeze()
        return {"score": await self._scorer.score_async(card_id)}
