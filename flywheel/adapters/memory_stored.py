"""Plain stored features in memory: the twin of `redis_stored`, holding the very messages that Redis would."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from flywheel.adapters.feast_layout import encode_time
from flywheel.kernel.stored import StoredColumns, StoredRequest, StoredView
from flywheel.kernel.stored_plan import StoredPlan, StoredRow, ViewGroup
from flywheel.kernel.stored_values import encode_scalar

Entity = tuple[str | int, ...]
"""Values of the join keys in the order of their names."""


class MemoryStoredFeatures:
    """A store to write to and, as it stands at that moment, to read."""

    def __init__(self, plan: StoredPlan, *, on_refused: Callable[[str, int], None] = lambda _view, _rows: None) -> None:
        self._plan = plan
        self._on_refused = on_refused
        self._messages: dict[tuple[str, str, Entity], bytes] = {}
        self._times: dict[tuple[str, Entity], bytes] = {}

    def write(
        self, view: StoredView, keys: Mapping[str, str | int], values: Mapping[str, float | None], time_us: int
    ) -> None:
        """Puts the values of one entity, None being null, in the place of those that were there."""
        for feature in view.features:
            if feature.name in values:
                self.put(view.name, feature.name, keys, encode_scalar(feature.type, values[feature.name]))
        self._times[view.name, _entity(keys)] = encode_time(time_us)

    def put(self, view: str, feature: str, keys: Mapping[str, str | int], message: bytes) -> None:
        """Puts these bytes where a feature's message belongs, whatever they are."""
        self._messages[view, feature, _entity(keys)] = message

    async def read(
        self,
        request: StoredRequest,
        timeout_s: float,  # noqa: ARG002  the port's; memory answers at once
    ) -> StoredColumns:
        """All entities and views of the request; ValueError for keys that do not fit the views."""
        rows, keys = self._plan.keys(request)
        answers = [
            [self._row(group, entity) for entity in zip(*columns, strict=True)]
            for group, columns in zip(self._plan.groups, keys, strict=True)
        ]
        columns = self._plan.columns(rows, answers, request.now_us)
        for view, refused in self._plan.refused(columns).items():
            self._on_refused(view, refused)
        return columns

    async def close(self) -> None:
        """Nothing to let go of."""

    def _row(self, group: ViewGroup, entity: Entity) -> StoredRow:
        messages = [self._messages.get((v.name, feature.name, entity)) for v in group.views for feature in v.features]
        return [*messages, *(self._times.get((view.name, entity)) for view in group.views)]


def _entity(keys: Mapping[str, str | int]) -> Entity:
    return tuple(keys[name] for name in sorted(keys))
