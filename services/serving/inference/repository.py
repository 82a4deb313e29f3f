"""The loaded models under the names that the Open Inference Protocol asks for them by.

`<use case>` is what decides: the whole chain of a version. `<use case>.<component>` is one part of it, alone.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flywheel.adapters.guarded_scorer import GuardedScorer
from flywheel.contracts.models import MODEL
from flywheel.kernel.declaration import UseCase
from flywheel.kernel.lineup import Lineup, LoadedModel
from flywheel.kernel.ports import Scorer
from services.serving.inference.feature_rows import ROWS, rows_of, whole_rows
from services.serving.inference.messages import IndexEntry, ModelNotReady, TensorDescription, UnknownModel
from services.serving.inference.tensors import Tensor

_REMEMBERED_S = 1.0


@dataclass(frozen=True)
class Runnable:
    """One model or component of one version. `columns` are its features, none where it takes something else."""

    name: str
    version: str
    scorer: Scorer
    columns: Sequence[str] = ()

    def inputs(self) -> tuple[TensorDescription, ...]:
        """What it takes."""
        if self.columns:
            return tuple(TensorDescription(feature, "FP32", (-1,)) for feature in self.columns)
        return (TensorDescription(ROWS, "FP32", (-1, self._width)),)

    def rows(self, inputs: Sequence[Tensor], max_rows: int) -> NDArray[np.float32]:
        """The rows that these tensors are. Raises InvalidInference."""
        return rows_of(inputs, self.columns, max_rows) if self.columns else whole_rows(inputs, self._width, max_rows)

    def max_elements(self, max_rows: int) -> int | None:
        """How many numbers so many rows have; None where the model does not tell how wide they are."""
        width = len(self.columns) or self._width
        return None if width < 0 else width * max_rows

    @property
    def _width(self) -> int:
        # Not every scorer knows how wide its rows are; one that does lets a wrong row be told from a failing model.
        return int(getattr(self.scorer, "feature_count", -1))


class Repository:
    """Everything of one use case's line-up that can be run.

    `published` reads the names of all versions; what it said or that it failed is kept for a second, however many ask.
    """

    def __init__(
        self,
        usecase: UseCase,
        lineup: Callable[[], Lineup],
        published: Callable[[], Sequence[str]],
        *,
        steady_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._usecase = usecase.name
        self._columns = usecase.feature_names
        self._lineup = lineup
        self._published = _Remembered(published, steady_s)
        self._loaded: tuple[Lineup, Sequence[IndexEntry]] | None = None

    @property
    def ready(self) -> bool:
        """Whether the champion is loaded."""
        return self._lineup().champion is not None

    def find(self, name: str, version: str) -> Runnable | None:
        """What has that name in that version, "" being the champion's; None where it is not loaded now.

        Raises UnknownModel for a name that nothing can have.
        """
        usecase, dot, part = name.partition(".")
        if usecase != self._usecase or (dot and not part):
            raise UnknownModel(f"there is no model {name[:64]!r}; there is {', '.join(self._names())}")
        model = self._model(version)
        if model is None:
            return None
        if not part:
            return Runnable(name, model.version, _unguarded(model.scorer), self._columns)
        if part not in model.components:
            raise UnknownModel(f"{model.version} has no {name[:64]!r}; there is {', '.join(self._names())}")
        return Runnable(name, model.version, model.components[part], self._columns if part == MODEL else ())

    def get(self, name: str, version: str) -> Runnable:
        """The same, or UnknownModel, or ModelNotReady as long as there is no champion."""
        found = self.find(name, version)
        if found is not None:
            return found
        if version and (there := ", ".join(self.versions(name))):
            raise UnknownModel(f"version {version[:64]!r} of {name} is not loaded; there is {there}")
        raise ModelNotReady(f"no model of {name} is loaded yet")

    def versions(self, name: str) -> tuple[str, ...]:
        """The versions of that name that are loaded now, the champion first."""
        part = name.partition(".")[2]
        models = [model for _, model in self._lineup().models() if not part or part in model.components]
        return tuple(dict.fromkeys(model.version for model in models))

    def loaded(self) -> Sequence[IndexEntry]:
        """An entry for each name and version that can be run now, with its role."""
        lineup = self._lineup()
        # Line-ups are replaced whole, so that what was made of one stays right.
        if self._loaded is None or self._loaded[0] is not lineup:
            self._loaded = (lineup, tuple(self._entries(lineup)))
        return self._loaded[1]

    def unloaded(self) -> list[IndexEntry]:
        """An entry for each published version that is not loaded. May read the model store, and so takes a thread."""
        loaded = self.versions(self._usecase)
        return [IndexEntry(self._usecase, v, False, "not loaded") for v in self._published() if v not in loaded]

    def _entries(self, lineup: Lineup) -> Iterator[IndexEntry]:
        roles: dict[str, str] = {}
        for role, model in lineup.models():
            if roles.setdefault(model.version, role.value) == role.value:
                yield from (IndexEntry(name, model.version, True, role.value) for name in self._names_of(model))

    def _model(self, version: str) -> LoadedModel | None:
        lineup = self._lineup()
        if not version:
            return lineup.champion
        return next((model for _, model in lineup.models() if model.version == version), None)

    def _names(self) -> list[str]:
        models = [model for _, model in self._lineup().models()]
        return list(dict.fromkeys([self._usecase, *(name for model in models for name in self._names_of(model))]))

    def _names_of(self, model: LoadedModel) -> list[str]:
        # A version without further components would only be listed twice.
        parts = model.components if len(model.components) > 1 else ()
        return [self._usecase, *(f"{self._usecase}.{part}" for part in parts)]


class _Remembered:
    """The published versions as they were read last, for a second after that; for as long, too, that they could not be.

    One caller reads, others wait for it.
    """

    def __init__(self, read: Callable[[], Sequence[str]], steady_s: Callable[[], float]) -> None:
        self._read = read
        self._steady_s = steady_s
        self._reading = threading.Lock()
        self._known: Sequence[str] | Exception = ()
        self._until_s = -math.inf

    def __call__(self) -> Sequence[str]:
        with self._reading:
            if self._steady_s() >= self._until_s:
                self._known = self._attempt()
                # From the end of the reading: those who waited for a slow one have had their answer by it.
                self._until_s = self._steady_s() + _REMEMBERED_S
            known = self._known
            if isinstance(known, Exception):
                # Each time the same one, whose traceback would grow.
                raise known.with_traceback(None)
            return known

    def _attempt(self) -> Sequence[str] | Exception:
        try:
            return tuple(self._read())
        except Exception as error:
            return error


def _unguarded(scorer: Scorer) -> Scorer:
    # Rows that a caller makes up say nothing about the model that decides; they must not have it taken away.
    return scorer.behind if isinstance(scorer, GuardedScorer) else scorer
