"""What the feature catalogue shows, as one typed document. Times are UTC; shares are of the newest decisions."""

from __future__ import annotations

from flywheel.contracts.events import Utc
from flywheel.kernel.description import EventDescription, FeatureDescription
from services.monitor.state import Freshness, Measure, Part, Variable


class Model(Part):
    """A published version. `role` is champion, challenger, canary, shadow or empty."""

    version: str
    algorithm: str
    created_at: Utc
    role: str


class Values(Part):
    """A feature's values in the newest decisions that are comparable with the training reference."""

    null_share: Measure
    """Of values that are no number."""
    default_share: Measure
    """Of values that an empty window has too, or an attribute where nothing valid is loaded; null for a feature that
    is computed at the request."""
    low: Measure
    """The 5th percentile; `high` is the 95th."""
    median: Measure
    high: Measure


class Distribution(Part):
    """Shares by bin of the champion's training reference. `edges` are the inner cut points; the outer bins are open.

    The null shares are of all values, the others of those that are numbers. `current` is empty without decisions.
    """

    edges: tuple[float, ...]
    reference: tuple[float, ...]
    current: tuple[float, ...]
    reference_null_share: float


class Entry(Part):
    """One feature: what is declared, what it looks like now, who uses it."""

    definition: FeatureDescription
    values: Values | None
    distribution: Distribution | None
    drift: Variable | None
    importance: Measure
    """Share of what the champion draws from its features."""
    models: tuple[int, ...]
    """Places in the catalogue's `models` of those that read it."""


class Contents(Part):
    """The whole catalogue."""

    usecase: str
    title: str
    simulated: bool
    generated_at: Utc
    champion: str | None
    decisions: int
    """The newest decisions that `values` and `distribution` are of."""
    drift_threshold: float
    freshness: Freshness
    models: tuple[Model, ...]
    """Newest first."""
    features: tuple[Entry, ...]
    events: tuple[EventDescription, ...]
