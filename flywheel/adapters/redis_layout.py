"""Where the online store keeps what: keys and hash fields, in Feast's own layout."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from flywheel.adapters import feast_layout
from flywheel.adapters.feast_key_reader import join_keys
from flywheel.adapters.feast_keys import EntityKeys
from flywheel.adapters.redis_address import own_key
from flywheel.adapters.redis_commands import HashReads
from flywheel.kernel.edge import edge_header
from flywheel.kernel.features import join_id, split_id
from flywheel.kernel.plan import FeaturePlan
from flywheel.kernel.ports import ViewKey
from flywheel.kernel.stored import JoinKey


class Layout:
    """Keys and fields of one use case."""

    def __init__(self, url: str, plan: FeaturePlan) -> None:
        self.project = plan.usecase.name
        self._keys = {
            view.name: EntityKeys(self.project, [JoinKey(name) for name in view.entity.keys]) for view in plan.views
        }
        self._keyed = {view.name: view.entity.keys for view in plan.views}
        entities = {view.name: view.entity.name for view in plan.views}
        self.states = {
            view: feast_layout.value_field(view, feast_layout.state_feature(name)) for view, name in entities.items()
        }
        self.edges = {
            view: feast_layout.value_field(view, feast_layout.edge_feature(name)) for view, name in entities.items()
        }
        self._reads = {view: HashReads([self.states[view], self.edges[view]]) for view in entities}
        self.times = {view: feast_layout.time_field(view) for view in entities}
        self.headers = {view.name: edge_header(view) for view in plan.views}
        self.row_bytes = {view.name: 8 * view.row_cells for view in plan.views}
        self.lifetimes_us = {view.name: view.lifetime_us for view in plan.views}
        self.progress_key = own_key(url, self.project, "progress")
        self.absorbed_key = own_key(url, self.project, "absorbed")
        self.source_key = own_key(url, self.project, "source")

    def entity(self, key: ViewKey) -> bytes:
        """The Redis key of an entity."""
        (entity,) = self._keys[key.view].encode([[value] for value in split_id(key.entity_id)])
        return entity

    def entities_of(self, keys: Iterable[ViewKey]) -> dict[ViewKey, bytes]:
        """The Redis key of each entity."""
        return {key: self.entity(key) for key in keys}

    def keys_in(self, raw: bytes) -> list[ViewKey]:
        """The rows that a Redis key holds: those of each view of that entity; none for a key of something else."""
        values = join_keys(raw, self.project) or {}
        mine = {view: keys for view, keys in self._keyed.items() if set(keys) == set(values)}
        return [ViewKey(view, join_id([values[name] for name in keys])) for view, keys in mine.items()]

    def reads(self, keys: Sequence[ViewKey]) -> list[bytes]:
        """The commands that read the states and edges under these keys."""
        return [command for key in keys for command in self._reads[key.view].of((self.entity(key),))]

    def place(self, key: ViewKey) -> tuple[bytes, bytes, bytes]:
        """Redis key and hash fields of a state and an edge."""
        return self.entity(key), self.states[key.view], self.edges[key.view]
