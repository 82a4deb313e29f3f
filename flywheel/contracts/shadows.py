"""What a shadow would have said: a model that answers nobody, beside the answer that was given."""

from __future__ import annotations

from flywheel.contracts.events import Utc
from flywheel.contracts.messages import Message


class ShadowScored(Message):
    """The shadow's score of one decision. It names the decision and nobody whom it was about."""

    decision_id: str
    usecase: str
    decided_at: Utc
    version: str
    """The shadow."""
    score: float
    action: str
    served_version: str
    served_score: float
    served_action: str
