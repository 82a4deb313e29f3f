"""The decision pipeline: sources → hydrators → filters → scorers → selectors → side effects.

Each stage here is a file. Hydrators are `flywheel.kernel.hydration`; side effects
are the caller's, who alone knows whom to tell: for serving `services.serving.decisions.journal`.
"""

from flywheel.kernel.decision.cohorts import MAX_ROWS
from flywheel.kernel.decision.ladder import Observer
from flywheel.kernel.decision.pipeline import Cohort, Decider, Pipeline
from flywheel.kernel.decision.record import Answered, Decided
from flywheel.kernel.decision.requests import Case, DecisionRequest, Refused

__all__ = [
    "MAX_ROWS",
    "Answered",
    "Case",
    "Cohort",
    "Decided",
    "Decider",
    "DecisionRequest",
    "Observer",
    "Pipeline",
    "Refused",
]
