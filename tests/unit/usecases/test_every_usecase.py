"""What every use case must pass; a new folder is put through it without being named here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flywheel.kernel import catalog
from flywheel.kernel.declaration import UseCase
from flywheel.kernel.fold import Reading
from flywheel.kernel.plan import compile_plan
from flywheel.kernel.rows import no_rows
from flywheel.kernel.state import EntityState
from flywheel.kernel.vector import assemble

USECASES = [catalog.load(name) for name in catalog.names()]


@pytest.fixture(params=USECASES, ids=lambda usecase: usecase.name)
def usecase(request: pytest.FixtureRequest) -> UseCase:
    found: UseCase = request.param
    return found


def test_its_plan_covers_every_windowed_feature(usecase: UseCase) -> None:
    planned = [feature for view in compile_plan(usecase).views for feature in view.features]
    assert sorted(feature.name for feature in planned) == sorted(feature.name for feature in usecase.windowed)


def test_an_unseen_entity_gives_a_finite_vector(usecase: UseCase) -> None:
    columns = {f"request.{name}": np.ones(1) for name in usecase.request.model_fields}
    columns["request.event_time_us"] = np.array([1.6e15])
    for view in compile_plan(usecase).views:
        values = Reading(view).values(EntityState.empty(view), no_rows(view), 1_600_000_000_000_000)
        columns |= {feature.name: np.array([value]) for feature, value in zip(view.features, values, strict=True)}
    vector = assemble(usecase, columns)
    assert vector.shape == (1, len(usecase.feature_names))
    assert np.isfinite(vector).all()


def test_it_explains_itself(usecase: UseCase) -> None:
    folder = Path(__file__).resolve().parents[3] / "usecases" / usecase.name
    assert (folder / "README.md").stat().st_size > 1_000
