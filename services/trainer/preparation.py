"""Makes a training set ready: read, checked for knowledge of the future, compared with what was served."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from flywheel.adapters.logs import logger
from flywheel.contracts.training import HistoryBuilt
from flywheel.kernel.declaration import UseCase
from services.trainer.leakage import LeakageCheck, check_leakage
from services.trainer.served import ServedParity, compared, served_rows
from services.trainer.training_set import Retrieval, TrainingSet, read_training_set

_log = logger(__name__)


@dataclass(frozen=True)
class Prepared:
    """The rows to learn from, and what was found about them."""

    examples: TrainingSet
    leakage: LeakageCheck
    parity: ServedParity
    prefers_served: bool

    @property
    def parameters(self) -> dict[str, int | bool]:
        """For the record of the run."""
        return {
            "leakage_rows_checked": self.leakage.rows,
            "leakage_values_checked": self.leakage.values,
            "served_rows": self.parity.served,
            "served_rows_preferred": self.prefers_served,
        }

    @property
    def metrics(self) -> dict[str, float]:
        """For the record of the run; without served rows there is nothing to say."""
        worst = self.parity.least_equal
        if worst is None:
            return {}
        return {
            "served_share": self.parity.served / self.parity.of,
            "served_equal_share_least": worst.equal_share,
            "served_worst_difference": max(parity.worst for parity in self.parity.features),
        }


def prepare(
    lake: Path,
    usecase: UseCase,
    history: HistoryBuilt,
    retrieve: Retrieval,
    *,
    reads_same: Callable[[str], bool],
    prefers_served: bool,
) -> Prepared:
    """The training set of a history. Raises TooLittleHistory, IncompleteHistory and FutureLeaked."""
    examples = read_training_set(lake, usecase, history, retrieve)
    leakage = check_leakage(lake, usecase, history, examples)
    served = served_rows(lake, usecase, examples.requests, reads_same)
    parity = compared(usecase, examples, served)
    if parity.least_equal is not None:
        _log.info("served_rows_compared", rows=parity.served, of=parity.of, least_equal=str(parity.least_equal))
    if prefers_served:
        examples = examples.replaced(served.places, served.rows)
    return Prepared(examples, leakage, parity, prefers_served)
