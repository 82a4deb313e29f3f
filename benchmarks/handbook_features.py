"""The handbook's own fifteen features and its logistic regression, to see how hard a simulated world is.

Amount, weekend, night; by customer the count and mean amount of the last 1, 7 and 30 days; by terminal the count and
the share of frauds of 1, 7 and 30 days that ended a week ago.
"""

from __future__ import annotations

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

_WINDOWS_DAYS = (1, 7, 30)
_DELAY_DAYS = 7


def handbook_features(transactions: pa.Table) -> pd.DataFrame:
    """event_id and the fifteen features of every payment; `transactions` as `usecases.fraud.handbook` makes them."""
    customer = [
        f"{what} OVER (PARTITION BY card_id ORDER BY at_us RANGE BETWEEN {days * 86_400_000_000} PRECEDING "
        f"AND CURRENT ROW) AS customer_{name}_{days}d"
        for days in _WINDOWS_DAYS
        for name, what in (("count", "count(*)"), ("mean", "avg(amount_cents)"))
    ]
    terminal = [
        f"{what} OVER (PARTITION BY terminal_id ORDER BY at_us RANGE BETWEEN "
        f"{(days + _DELAY_DAYS) * 86_400_000_000} PRECEDING AND {_DELAY_DAYS * 86_400_000_000} PRECEDING) "
        f"AS terminal_{name}_{days}d"
        for days in _WINDOWS_DAYS
        for name, what in (("count", "count(*)"), ("risk", "avg(is_fraud::INT)"))
    ]
    with duckdb.connect() as database:
        database.execute("SET TimeZone = 'UTC'")
        database.register("transactions", transactions)
        frame = database.execute(
            f"""
            SELECT event_id, amount_cents / 100 AS amount,
                (dayofweek(event_time) IN (0, 6))::INT AS is_weekend, (hour(event_time) <= 6)::INT AS is_night,
                {", ".join(customer + terminal)}
            FROM (SELECT *, epoch_us(event_time) AS at_us FROM transactions)
            """
        ).df()
    return frame.fillna(0.0)


def logistic_scores(
    train: NDArray[np.float64], labels: NDArray[np.bool_], test: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Probabilities of a logistic regression on standardised features."""
    scaler = StandardScaler().fit(train)
    model = LogisticRegression(max_iter=1000).fit(scaler.transform(train), labels)
    return np.asarray(model.predict_proba(scaler.transform(test))[:, 1], dtype=np.float64)
