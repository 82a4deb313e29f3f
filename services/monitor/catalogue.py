"""Makes the feature catalogue: what is declared of each feature, beside how it looks now and which models use it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from flywheel.contracts.models import Deployment, Histogram, ModelManifest, Role
from flywheel.kernel import drift
from flywheel.kernel.declaration import UseCase
from flywheel.kernel.description import describe, describe_events
from services.monitor.contents import Contents, Distribution, Entry, Model, Values
from services.monitor.deployed import Deployed
from services.monitor.observations import Observations
from services.monitor.published import Published, PublishedModel
from services.monitor.shifts import comparable
from services.monitor.state import State

_PERCENTILES = (5, 50, 95)

Column = NDArray[np.float64]


class Catalogue:
    """Computes the contents on demand, at most once in `every`; it belongs to the thread that reads the log."""

    def __init__(
        self,
        usecase: UseCase,
        observations: Observations,
        deployed: Deployed,
        published: Published,
        *,
        every: timedelta,
    ) -> None:
        self._usecase = usecase
        self._observations = observations
        self._deployed = deployed
        self._published = published
        self._every = every
        self._definitions = describe(usecase)
        self._events = describe_events(usecase)
        self._defaults = {feature.name: feature.undefined for feature in usecase.windowed}
        self._defaults |= {feature.name: feature.default for feature in usecase.attributes}
        self._contents: Contents | None = None

    def contents(self, state: State, now: datetime) -> Contents:
        """The catalogue now, or the last one while that is not old; `state` is the console's of this moment."""
        if self._contents is None or now - self._contents.generated_at >= self._every:
            self._contents = self._made(state, now)
        return self._contents

    def _made(self, state: State, now: datetime) -> Contents:
        manifest, deployment = self._deployed.manifest, self._deployed.deployment
        models = self._published.newest_first()
        columns, decisions = self._columns(manifest)
        variables = {variable.name: variable for variable in state.drift.variables}
        return Contents(
            usecase=state.usecase,
            title=state.title,
            simulated=state.simulated,
            generated_at=now,
            champion=manifest.version if manifest else None,
            decisions=decisions,
            drift_threshold=state.drift.threshold,
            freshness=state.freshness,
            models=tuple(_model(model, deployment) for model in models),
            features=tuple(
                Entry(
                    definition=definition,
                    values=self._values(columns.get(definition.name), definition.name),
                    distribution=_distribution(columns.get(definition.name), manifest, definition.name),
                    drift=variables.get(definition.name),
                    importance=manifest.importance.get(definition.name) if manifest else None,
                    models=tuple(place for place, model in enumerate(models) if definition.name in model.features),
                )
                for definition in self._definitions
            ),
            events=self._events,
        )

    def _columns(self, manifest: ModelManifest | None) -> tuple[Mapping[str, Column], int]:
        """The champion's features in the newest comparable decisions, and how many those are."""
        rows = comparable(self._observations.recent, manifest.feature_names) if manifest else []
        if manifest is None or not rows:
            return {}, 0
        values = np.array([logged.features for logged in rows], dtype=np.float64)
        return {name: values[:, place] for place, name in enumerate(manifest.feature_names)}, len(rows)

    def _values(self, column: Column | None, name: str) -> Values | None:
        if column is None:
            return None
        present = column[~np.isnan(column)]
        low, median, high = np.percentile(present, _PERCENTILES) if present.size else (None, None, None)
        default = self._defaults.get(name)
        return Values(
            null_share=1 - present.size / column.size,
            # Decisions are made, and logged, in single precision.
            default_share=None if default is None else float(np.mean(column == np.float32(default))),
            low=low,
            median=median,
            high=high,
        )


def _model(model: PublishedModel, deployment: Deployment | None) -> Model:
    roles = {deployment.version_of(role): role for role in Role} if deployment else {}
    return Model(
        version=model.version,
        algorithm=model.algorithm,
        created_at=model.created_at,
        role=str(roles.get(model.version, "")),
    )


def _distribution(column: Column | None, manifest: ModelManifest | None, name: str) -> Distribution | None:
    if manifest is None or name not in manifest.reference:
        return None
    reference = manifest.reference[name]
    return Distribution(
        edges=reference.edges,
        reference=_shares(np.array(reference.counts)),
        current=() if column is None else _shares(drift.count(column, reference)[:-1]),
        reference_null_share=_null_share(reference),
    )


def _null_share(reference: Histogram) -> float:
    total = sum(reference.counts) + reference.missing
    return reference.missing / total if total else 0.0


def _shares(counts: NDArray[np.int64]) -> tuple[float, ...]:
    total = counts.sum()
    return tuple(float(count) for count in counts / total) if total else ()
