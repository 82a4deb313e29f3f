"""The handbook's data set has the handbook's proportions."""

from __future__ import annotations

import numpy as np
import pyarrow.compute as pc
import pytest

from usecases.fraud import handbook

DAYS = 60


def test_volume_and_fraud_share_are_the_handbooks() -> None:
    table = handbook.transactions(seed=0, days=DAYS)
    # 5000 customers at 0 to 4 a day pay 2 on average, less what falls outside the day or finds no terminal; which
    # customers there are varies that by 0.8 % (one standard error), hence 3 %.
    assert table.num_rows / DAYS == pytest.approx(9_600, rel=0.03)
    scenario = table["scenario"].to_numpy()
    assert np.array_equal(table["is_fraud"].to_numpy(), scenario > 0)
    # Published for the whole 183 days: 0.84 %. The first four weeks have fewer compromised terminals, so look after
    # them; about 2,500 frauds in clusters of ten to fifty make one standard error about 5 %.
    after_start_up = scenario[len(scenario) // 2 :]
    assert (after_start_up > 0).mean() == pytest.approx(0.0088, rel=0.15)
    assert set(np.unique(scenario)) == {0, 1, 2, 3}


def test_rows_are_ordered_and_ids_unique() -> None:
    table = handbook.transactions(seed=1, days=3)
    times = table["event_time"].to_numpy()
    assert (np.diff(times) >= np.timedelta64(0)).all()
    assert pc.count_distinct(table["event_id"]).as_py() == table.num_rows
    assert table["event_time"][0].as_py().date().isoformat() == "2018-04-01"


def test_the_same_seed_gives_the_same_table() -> None:
    assert handbook.transactions(seed=2, days=3).equals(handbook.transactions(seed=2, days=3))
    assert not handbook.transactions(seed=2, days=3).equals(handbook.transactions(seed=3, days=3))
