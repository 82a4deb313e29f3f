"""Training rows with attributes that nobody knew at their requests are refused by name; honest ones pass."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from flywheel.adapters.attribute_lake import AttributeLake
from flywheel.adapters.point_in_time import JoinLimits
from flywheel.contracts.events import to_us
from flywheel.contracts.training import HistoryBuilt
from flywheel.kernel.attributes import AttributeRow, attributes
from flywheel.kernel.declaration import UseCase
from flywheel.kernel.features import Entity
from services.trainer.leakage import FutureLeaked, check_leakage
from services.trainer.training_set import TrainingSet, read_training_set
from tests.integration.services.trainer.conftest import ARRIVED, SmallWorld
from usecases.fraud import usecase

_terminal, _card = (next(entity for entity in usecase.entities if entity.name == name) for name in ("terminal", "card"))
WIDER = replace(
    usecase,
    features=(
        *usecase.features,
        *attributes("terminal_profile", "floor_limit_cents", "opened_days").by(_terminal).valid_for("9d", default=-1.0),
        *attributes("card_profile", "segment").by(_card).valid_forever(default=-2.0),
    ),
)
TERMINALS, CARDS = WIDER.attribute_tables
FLOOR = "terminal_floor_limit_cents"


class Loads:
    """The small world's lake with loads of its own beside it."""

    def __init__(self, world: SmallWorld, lake: Path) -> None:
        self.world = world
        self.root = lake
        (lake / "fraud").mkdir(parents=True)
        for name in world.frames:
            (lake / "fraud" / name).symlink_to(world.lake / "fraud" / name)
        self.lake = AttributeLake(lake / "fraud", JoinLimits(256, lake.parent / "spill"))
        self._rng = np.random.default_rng(3)

    def load(self, day: float, loaded_at: datetime, *, share: float = 0.9) -> None:
        """Some of the terminals as of that day, one in ten of the values null, and some of the cards."""
        payments = self.world.frames["transaction"]
        as_of_us = to_us(payments["event_time"].min() + timedelta(days=day))
        self.lake.append(TERMINALS, self._rows(payments["terminal_id"].unique(), as_of_us, 2, share), loaded_at)
        self.lake.append(CARDS, self._rows(payments["card_id"].unique(), as_of_us, 1, share), loaded_at)

    def _rows(self, ids: Iterable[str], as_of_us: int, columns: int, share: float) -> list[AttributeRow]:
        chosen = [str(each) for each in ids if self._rng.random() < share]
        drawn = self._rng.integers(1, 10_000, (len(chosen), columns)).tolist()
        return [
            AttributeRow((each,), as_of_us, tuple(None if v % 10 == 0 else float(v) for v in values))
            for each, values in zip(chosen, drawn, strict=True)
        ]

    def examples(self, history: HistoryBuilt, known: UseCase = WIDER) -> TrainingSet:
        """As the trainer joins them, with the tables as `known` declares them."""

        def retrieve(requests: pa.Table) -> pa.Table:
            windows = self.world.retrieve(requests)
            return self.lake.known_at(windows, known.attribute_tables, loaded_until=history.arrived_until)

        return read_training_set(self.root, WIDER, history, retrieve)


def known(world: SmallWorld) -> HistoryBuilt:
    return world.message().model_copy(update={"as_known": True, "arrived_until": ARRIVED})


@pytest.fixture
def loads(small_world: SmallWorld, tmp_path: Path) -> Loads:
    found = Loads(small_world, tmp_path / "lake")
    for number, day in enumerate((2, 25, 12, 12, 40)):
        found.load(day, ARRIVED - timedelta(hours=10 - number))
    return found


def test_honest_rows_pass_and_every_attribute_of_the_sample_was_looked_at(loads: Loads) -> None:
    history = known(loads.world)
    honest = loads.examples(history)
    values = honest.requests[FLOOR].to_numpy()
    assert 0.1 < (values == -1.0).mean() < 0.9
    check = check_leakage(loads.root, WIDER, history, honest)
    assert check.values == check.rows * (len(usecase.windowed) + 3)


def test_without_any_load_the_defaults_are_right(small_world: SmallWorld, tmp_path: Path) -> None:
    none = Loads(small_world, tmp_path / "lake")
    history = known(small_world)
    honest = none.examples(history)
    check_leakage(none.root, WIDER, history, honest)
    with pytest.raises(FutureLeaked, match=rf"^{FLOOR} of \S+ is 7, but -1 was known when it happened at 2018-"):
        check_leakage(none.root, WIDER, history, planted(honest, FLOOR, np.full(len(honest.labels), 7.0)))


def planted(examples: TrainingSet, name: str, values: np.ndarray) -> TrainingSet:
    place = examples.requests.column_names.index(name)
    return replace(examples, requests=examples.requests.set_column(place, name, pa.array(values)))


def test_a_value_of_a_later_load_is_refused_by_name(loads: Loads) -> None:
    history = known(loads.world)
    honest = loads.examples(history)
    frame = honest.requests.to_pandas()
    final = frame.groupby("terminal_id")[FLOOR].transform("last").to_numpy()
    with pytest.raises(FutureLeaked, match=f"^{FLOOR} of .* wrong values among \\d+, in {FLOOR}$"):
        check_leakage(loads.root, WIDER, history, planted(honest, FLOOR, final))


def test_one_future_value_in_any_sampled_row_is_enough(loads: Loads) -> None:
    history = known(loads.world)
    honest = loads.examples(history)
    values = honest.requests["card_segment"].to_numpy().copy()
    values[-1] += 0.5
    with pytest.raises(FutureLeaked, match=r"^card_segment of \S+ is \S+, but \S+ was known when .* and arrived$"):
        check_leakage(loads.root, WIDER, history, planted(honest, "card_segment", values), rows=len(values))


def test_what_was_loaded_after_the_request_arrived_was_not_known(loads: Loads) -> None:
    history = known(loads.world)
    honest = loads.examples(history)
    loads.load(20, ARRIVED + timedelta(microseconds=1))
    check_leakage(loads.root, WIDER, history, honest)
    everything = honest.requests.set_column(
        honest.requests.column_names.index("backfilled"), "backfilled", pa.array([True] * len(honest.labels))
    )
    hindsight = loads.lake.known_at(everything, WIDER.attribute_tables)
    with pytest.raises(FutureLeaked, match=FLOOR):
        check_leakage(loads.root, WIDER, history, planted(honest, FLOOR, hindsight[FLOOR].to_numpy()))


def test_to_what_was_backfilled_all_is_known_that_was_loaded_until_the_history(loads: Loads, tmp_path: Path) -> None:
    world = loads.world
    late = Loads(world, tmp_path / "backfilled")
    (late.root / "fraud" / "transaction").unlink()
    arrived = ARRIVED - timedelta(days=1)
    world.archive(
        "transaction", world.frames["transaction"], batch_id=1, ingest_time=arrived, lake=late.root, backfilled=True
    )
    late.load(12, ARRIVED)
    late.load(15, ARRIVED + timedelta(microseconds=1))
    history = known(world)
    honest = late.examples(history)
    assert (honest.requests[FLOOR].to_numpy() != -1.0).any()
    check_leakage(late.root, WIDER, history, honest)
    with pytest.raises(FutureLeaked, match=f"{FLOOR}|card_segment"):
        check_leakage(late.root, WIDER, history.model_copy(update={"arrived_until": arrived}), honest)


def test_what_is_no_longer_valid_is_refused(loads: Loads) -> None:
    history = known(loads.world)
    forever = [
        replace(feature, valid_us=None) if feature in WIDER.attributes else feature for feature in WIDER.features
    ]
    stale = loads.examples(history, replace(WIDER, features=tuple(forever)))
    with pytest.raises(FutureLeaked, match=r"^terminal_\w+ of \S+ is \S+, but -1 was known"):
        check_leakage(loads.root, WIDER, history, stale)


def test_a_column_that_was_declared_later_is_null_in_the_loads_before(loads: Loads) -> None:
    history = known(loads.world)
    more = attributes("card_profile", "limit_cents").by(_card).valid_forever(default=-3.0)
    grown = replace(WIDER, features=(*WIDER.features, *more))
    honest = loads.examples(history, grown)
    assert set(honest.requests["card_limit_cents"].to_pylist()) == {-3.0}
    check = check_leakage(loads.root, grown, history, honest)
    assert check.values == check.rows * (len(usecase.windowed) + 4)


def test_a_key_of_several_fields_is_looked_up_whole(loads: Loads) -> None:
    pair = Entity("pair", key=("card_id", "terminal_id"))
    visits = attributes("pair_profile", "visits").by(pair).valid_forever(default=-4.0)
    grown = replace(WIDER, entities=(*WIDER.entities, pair), features=(*WIDER.features, *visits))
    payments = loads.world.frames["transaction"].drop_duplicates(["card_id", "terminal_id"])
    met = payments[["card_id", "terminal_id"]].astype(str).itertuples(index=False, name=None)
    rows = [AttributeRow(key, 0, (float(place),)) for place, key in enumerate(met)]
    loads.lake.append(grown.attribute_tables[-1], rows, ARRIVED - timedelta(hours=1))
    history = known(loads.world)
    honest = loads.examples(history, grown)
    values = honest.requests["pair_visits"].to_numpy()
    assert (values >= 0).all()
    check_leakage(loads.root, grown, history, honest)
    with pytest.raises(FutureLeaked, match=r"^pair_visits of"):
        check_leakage(loads.root, grown, history, planted(honest, "pair_visits", values + 1))
