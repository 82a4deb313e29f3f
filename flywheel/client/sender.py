"""Hands deliveries to ingest and books what became of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from flywheel.adapters.logs import logger
from flywheel.client.deliveries import Delivery, Kind
from flywheel.client.ingest_client import BatchOutcome, IngestClient
from flywheel.client.ledger import Ledger
from flywheel.contracts.metrics import WORLD_EVENTS

_log = logger(__name__)


class Sender:
    """Sends in order, one request after the other; event time of one topic never goes back because of concurrency."""

    def __init__(self, ingest: IngestClient, ledger: Ledger, usecase: str) -> None:
        self._ingest = ingest
        self._ledger = ledger
        self._usecase = usecase

    async def send(self, deliveries: Iterable[Delivery], *, backfilled: bool = False) -> int:
        """Sends those that are events, split by event, and returns how many once each has a definite answer.

        `backfilled` ones are loaded after the fact.
        """
        by_event: dict[str, list[Delivery]] = {}
        for delivery in deliveries:
            if delivery.sends:
                by_event.setdefault(delivery.event_name, []).append(delivery)
        outcomes = [
            (batch, await self._ingest.send_batch(name, [each.fields for each in batch], backfilled=backfilled))
            for name, batch in by_event.items()
        ]
        for batch, outcome in outcomes:
            self._book(batch, outcome)
        return sum(len(batch) for batch, _ in outcomes)

    def _book(self, batch: Sequence[Delivery], outcome: BatchOutcome) -> None:
        rejections = {rejection.index: rejection for rejection in outcome.rejections}
        name = batch[0].event_name
        for index, delivery in enumerate(batch):
            rejection = rejections.get(index)
            if rejection is None:
                self._ledger.accepted(name, delivery.kind)
            else:
                self._ledger.rejected(name, delivery.kind)
            if (rejection is None) == (delivery.kind is Kind.MALFORMED):
                reason = rejection.reason if rejection else "accepted although it is malformed"
                _log.warning(
                    "unexpected_answer", event_id=delivery.fields["event_id"], kind=delivery.kind, reason=reason
                )
        self._ledger.resent_batches += outcome.retries
        WORLD_EVENTS.labels(self._usecase, name, "accepted").inc(outcome.accepted)
        WORLD_EVENTS.labels(self._usecase, name, "rejected").inc(len(rejections))
        WORLD_EVENTS.labels(self._usecase, name, "resent").inc(outcome.retries * len(batch))
