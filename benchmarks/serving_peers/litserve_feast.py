"""A server of LitServe: reads features by Feast's SDK and runs the model; `python litserve_feast.py PORT`."""

import sys

import litserve
from feast_scorer import FeastScorer
from pydantic import BaseModel


class Ask(BaseModel):
    # LitServe reads this class off the annotation below, so annotations must not be deferred here.
    card_id: str


class CardScoring(litserve.LitAPI):  # type: ignore[misc]
    """One card id in, one score out."""

    def setup(self, device: str) -> None:
        del device
        self._scorer = FeastScorer()
        self._scorer.warm()

    def decode_request(self, request: Ask) -> str:
        return request.card_id

    def predict(self, x: str) -> float:
        return float(self._scorer.score(x))

    def encode_response(self, output: float) -> dict[str, float]:
        return {"score": output}


if __name__ == "__main__":
    server = litserve.LitServer(CardScoring(), accelerator="cpu", workers_per_device=1, timeout=60)
    server.run(port=int(sys.argv[1]), num_api_servers=1, generate_client_file=False, log_level="warning")
