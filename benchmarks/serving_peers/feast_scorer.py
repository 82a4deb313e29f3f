"""What every peer does for a request: read thirty features of a card by Feast's SDK, and run the model."""

from __future__ import annotations

from feast_model import FeastModel, freeze

_WARM_CALLS = 50


class FeastScorer:
    """Scores cards; `score` and `score_async` do the same by Feast's two ways."""

    def __init__(self) -> None:
        self._model = FeastModel()

    def score(self, card_id: str) -> float:
        """The model's probability for that card."""
        return float(self._model.scores([{"card_id": card_id}])[0])

    async def score_async(self, card_id: str) -> float:
        """The same, while others are served."""
        return float((await self._model.scores_async([{"card_id": card_id}]))[0])

    def warm(self) -> None:
        """Makes the first calls, and keeps the garbage collector from looking at what is there for good."""
        for number in range(_WARM_CALLS):
            self.score(f"card-{number}")
        freeze()

    async def warm_async(self) -> None:
        """As `warm`, on the running loop."""
        for number in range(_WARM_CALLS):
            await self.score_async(f"card-{number}")
        freeze()
