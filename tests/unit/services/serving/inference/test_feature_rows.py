"""Columns go where their names say; what would change a number on its way to the model is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from services.serving.inference.feature_rows import rows_of
from services.serving.inference.tensors import DATATYPES, InvalidInference, Tensor

NAMES = ("a", "b", "c")


def tensor(name: str, values: Any, datatype: str = "FP32") -> Tensor:
    return Tensor(name, np.array(values, DATATYPES[datatype]))


def rows(*inputs: Tensor, max_rows: int = 10) -> NDArray[np.float32]:
    return rows_of(inputs, NAMES, max_rows)


@given(st.permutations(NAMES), st.integers(1, 5))
def test_features_by_name_give_the_same_rows_in_any_order(order: list[str], count: int) -> None:
    whole = np.arange(count * 3, dtype=np.float32).reshape(count, 3)
    parts = [tensor(name, whole[:, NAMES.index(name)]) for name in order]
    np.testing.assert_array_equal(rows(*parts), whole)
    np.testing.assert_array_equal(rows(tensor("features", whole)), whole)
    columns = [tensor(name, whole[:, [NAMES.index(name)]]) for name in order]
    np.testing.assert_array_equal(rows(*columns), whole)


@pytest.mark.parametrize("datatype", [name for name in DATATYPES if name != "BOOL"])
def test_every_datatype_of_numbers_is_taken(datatype: str) -> None:
    found = rows(tensor("features", [[1, 2, 3]], datatype))
    assert found.dtype == np.float32
    assert found.tolist() == [[1, 2, 3]]


def test_nan_is_a_missing_value_and_stays_one() -> None:
    assert np.isnan(rows(tensor("features", [[np.nan] * 3], "FP64"))).all()


def test_64_bit_floats_are_rounded() -> None:
    assert rows(tensor("features", [[0.1, 1e-300, 2.0**24 + 1]], "FP64")).tolist() == [
        [float(np.float32(0.1)), 0.0, 2.0**24]
    ]


@pytest.mark.parametrize("datatype", ["INT32", "UINT32", "INT64", "UINT64"])
def test_integers_that_would_be_changed_are_refused(datatype: str) -> None:
    assert rows(tensor("features", [[2**24, 0, 1]], datatype))[0, 0] == 2**24
    with pytest.raises(InvalidInference, match=r"features: element 1 is beyond 2\*\*24"):
        rows(tensor("features", [[0, 2**24 + 1, 1]], datatype))
    if not datatype.startswith("U"):
        with pytest.raises(InvalidInference, match="element 2"):
            rows(tensor("features", [[0, 1, -(2**24) - 1]], datatype))


@pytest.mark.parametrize("value", [np.inf, -np.inf, 1e39])
def test_what_is_infinite_to_the_model_is_refused(value: float) -> None:
    with pytest.raises(InvalidInference, match="element 1 is infinite"):
        rows(tensor("features", [[0, value, 1]], "FP64"))


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ([], "there is no 'a', 'b', 'c'"),
        ([tensor("a", [1]), tensor("b", [1])], "there is no 'c'"),
        ([tensor(name, [1]) for name in (*NAMES, "d")], "the model has no 'd'"),
        ([tensor("features", [[1, 2, 3]]), tensor("a", [1])], "the model has no 'features'"),
        ([tensor("a", [1])] * 2, "a name comes twice"),
        ([tensor("features", [1, 2, 3])], r"features: the shape is \[3\]"),
        ([tensor("features", [[1, 2]])], r"send \[rows, 3\]"),
        ([tensor("a", [[1, 2]]), tensor("b", [1]), tensor("c", [1])], r"a: the shape is \[1, 2\]"),
        ([tensor("a", [1, 2]), tensor("b", [1]), tensor("c", [1])], "more rows than others"),
        ([tensor("features", [[True, False, True]], "BOOL")], "a BOOL is no number"),
        ([tensor("features", [[1, 2, 3]] * 11)], "11 rows where 10 are accepted"),
    ],
)
def test_a_refusal_says_what_is_wrong(inputs: list[Tensor], said: str) -> None:
    with pytest.raises(InvalidInference, match=said):
        rows(*inputs)
