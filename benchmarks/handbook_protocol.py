"""The fraud-detection handbook's test protocol: which rows train, which test, and how a score is judged.

Seven days train, seven days of delay follow, seven days test. A card leaves the test once it is known to be
compromised: by a fraud in training, or by one whose label has come in, a day after its week of delay. AUC and average
precision are over all remaining payments. For card precision the hundred most suspicious cards of each day are
checked, and those found compromised are not checked again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flywheel.contracts.events import to_us
from flywheel.kernel.durations import DAY_US
from flywheel.kernel.evaluation import average_precision, card_precision_at_k, roc_auc
from usecases.fraud.simulation.start import START

FIRST_TRAINING_DAY = 115
"""2018-07-25."""
FIRST_TEST_DAY = 129
"""2018-08-08."""
DAYS_EACH = 7
DELAY_DAYS = 7
CARDS_CHECKED = 100


@dataclass(frozen=True)
class Judgement:
    """The three figures that the handbook publishes."""

    auc: float
    average_precision: float
    card_precision_100: float


def day_numbers(times_us: NDArray[np.int64]) -> NDArray[np.int64]:
    """Days since the world's first, 0 for 2018-04-01."""
    return (times_us - to_us(START)) // DAY_US


def training_rows(days: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which payments train."""
    return (days >= FIRST_TRAINING_DAY) & (days < FIRST_TRAINING_DAY + DAYS_EACH)


def test_rows(payments: pd.DataFrame) -> NDArray[np.bool_]:
    """Which payments test; `payments` holds day, card_id and is_fraud of all, from the first training day on."""
    day, fraud = payments["day"].to_numpy(), payments["is_fraud"].to_numpy()
    known = set(payments.loc[training_rows(day) & fraud, "card_id"])
    chosen = np.zeros(len(payments), dtype=bool)
    for today in range(FIRST_TEST_DAY, FIRST_TEST_DAY + DAYS_EACH):
        known |= set(payments.loc[fraud & (day == today - DELAY_DAYS - 1), "card_id"])
        chosen |= (day == today) & ~payments["card_id"].isin(known).to_numpy()
    return chosen


def judge(tested: pd.DataFrame, scores: NDArray[np.float64]) -> Judgement:
    """How scores of the test payments did."""
    labels = tested["is_fraud"].to_numpy()
    return Judgement(
        auc=roc_auc(labels, scores),
        average_precision=average_precision(labels, scores),
        card_precision_100=_card_precision(tested.assign(score=scores)),
    )


def _card_precision(scored: pd.DataFrame) -> float:
    found: set[str] = set()
    shares = []
    for day, payments in scored.groupby("day", sort=True):
        unchecked = payments[~payments["card_id"].isin(found)]
        share = card_precision_at_k(
            np.full(len(unchecked), day), unchecked["card_id"], unchecked["score"], unchecked["is_fraud"], CARDS_CHECKED
        )
        shares.append(share)
        cards = unchecked.groupby("card_id", sort=True)[["score", "is_fraud"]].max()
        top = cards.sort_values("score", ascending=False, kind="stable").head(CARDS_CHECKED)
        found |= set(top.index[top["is_fraud"]])
    return float(np.mean(shares))
