"""A model run by ONNX Runtime, refused before it runs when it could reach beyond itself."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from flywheel.adapters.onnx_attribution import attributor_of
from flywheel.adapters.onnx_inspection import check_self_contained
from flywheel.kernel.attribution import Attribution, Attributor, NotExplainable
from flywheel.kernel.ports import CorruptModel

_FEW_ROWS = 64
"""On more rows what a run costs beside the model is no matter, and memory kept for it would be."""


class OnnxScorer:
    """Probabilities of one ONNX model, one thread a call.

    The model takes one float tensor (n, features) and gives the probability of the positive label as its last
    floating-point output: (n,), (n, 1) or, for both labels, (n, 2). Raises CorruptModel when it is none of that, uses
    operators outside the standard or refers to files.
    """

    def __init__(self, model: bytes) -> None:
        check_self_contained(model)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        # Rows are small: a growing arena per model would hold memory for nothing.
        options.enable_cpu_mem_arena = False
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            # ONNX Runtime's errors have no common type below Exception.
            raise CorruptModel(f"ONNX Runtime does not take the model: {error}") from error
        self._input, self.feature_count = _input(self._session)
        self._output = _output(self._session)
        self._free: defaultdict[int, list[_Bound]] = defaultdict(list)
        self._model = model
        self._attributor: Attributor | NotExplainable | None = None

    def score(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """Probability of the positive label for each row; shape (n, features) to (n,)."""
        if rows.ndim != 2 or rows.shape[1] != self.feature_count:
            raise ValueError(f"the model takes rows of {self.feature_count} features, not of shape {rows.shape}")
        if not 0 < len(rows) <= _FEW_ROWS:
            return _last(self._run(rows)).astype(np.float64)
        # What is in use is in no list: two threads never share memory.
        free = self._free[len(rows)]
        try:
            bound = free.pop()
        except IndexError:
            found = self._run(rows)
            free.append(self._bound(rows.shape, found))
            return _last(found).astype(np.float64)
        bound.rows[:] = rows
        self._session.run_with_iobinding(bound.binding)
        scores = bound.scores.astype(np.float64)
        free.append(bound)
        return scores

    def _run(self, rows: NDArray[np.float32]) -> NDArray[Any]:
        found: list[NDArray[Any]] = self._session.run(
            [self._output], {self._input: np.ascontiguousarray(rows, dtype=np.float32)}
        )
        return found[0]

    def _bound(self, shape: tuple[int, ...], found: NDArray[Any]) -> _Bound:
        """For runs on rows of that shape, into the output of one."""
        given = np.empty(shape, np.float32)
        binding = self._session.io_binding()
        binding.bind_input(self._input, "cpu", 0, np.float32, given.shape, given.ctypes.data)
        binding.bind_output(self._output, "cpu", 0, found.dtype.type, found.shape, found.ctypes.data)
        return _Bound(binding, given, _last(found))

    def explain(self, row: NDArray[np.float32]) -> Attribution:
        """The score of one row, shape (features,), as a sum in log-odds. Raises NotExplainable.

        The first takes several times as long as others: what is common to all is worked out then.
        """
        # Taken first: whoever else makes the attributor lets go of the bytes after it is there.
        model, attributor = self._model, self._attributor
        if attributor is None:
            attributor = self._attributor = _attributor(model, self.feature_count)
            self._model = b""
        if isinstance(attributor, NotExplainable):
            raise NotExplainable(str(attributor))
        return attributor.attribute(row)


class _Bound(NamedTuple):
    """A run whose input and output stay where they are: nothing is looked up, allocated or converted for it."""

    binding: onnxruntime.IOBinding
    rows: NDArray[np.float32]
    scores: NDArray[Any]
    """Of the positive label; a part of the output."""


def _last(found: NDArray[Any]) -> NDArray[Any]:
    return found[:, -1] if found.ndim == 2 else found


def _attributor(model: bytes, features: int) -> Attributor | NotExplainable:
    try:
        return attributor_of(model, features)
    except NotExplainable as reason:
        return reason


def _input(session: onnxruntime.InferenceSession) -> tuple[str, int]:
    inputs = session.get_inputs()
    if len(inputs) != 1 or inputs[0].type != "tensor(float)" or len(inputs[0].shape) != 2:
        raise CorruptModel("the model must take exactly one float tensor of shape (n, features)")
    width = inputs[0].shape[1]
    if not isinstance(width, int):
        raise CorruptModel("the model does not say how many features it takes")
    return inputs[0].name, width


def _output(session: onnxruntime.InferenceSession) -> str:
    names = [o.name for o in session.get_outputs() if o.type in ("tensor(float)", "tensor(double)")]
    if not names:
        raise CorruptModel("the model gives no floating-point tensor")
    return str(names[-1])
