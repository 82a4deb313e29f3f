"""Tensors are what was sent, to the bit, or refused: nothing is guessed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from flywheel.contracts.proto.inference_pb2 import ModelInferRequest
from services.serving.inference import json_bodies
from services.serving.inference.messages import InferenceAnswer
from services.serving.inference.proto_messages import contents_of, read_request, write_answer
from services.serving.inference.tensors import DATATYPES, InvalidInference, Tensor, from_bytes, from_values

SHAPES = arrays.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=5)


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    dtype = DATATYPES[draw(st.sampled_from(sorted(DATATYPES)))]
    return Tensor("t", draw(arrays.arrays(dtype, SHAPES)))


def same(found: NDArray[Any], sent: NDArray[Any]) -> bool:
    return found.dtype == sent.dtype and found.shape == sent.shape and found.tobytes() == sent.tobytes()


@given(tensors())
def test_raw_contents_come_back_to_the_bit(sent: Tensor) -> None:
    found = from_bytes(sent.name, sent.datatype, sent.values.shape, sent.to_bytes())
    assert same(found.values, sent.values)


@given(tensors())
def test_plain_values_come_back_as_they_were(sent: Tensor) -> None:
    found = from_values(sent.name, sent.datatype, sent.values.shape, sent.values.reshape(-1).tolist())
    assert found.datatype == sent.datatype
    np.testing.assert_array_equal(found.values, sent.values)


@given(tensors(), st.booleans())
def test_what_an_answer_says_can_be_asked_again(sent: Tensor, raw: bool) -> None:
    raw = raw or sent.datatype == "FP16"
    answer = write_answer(InferenceAnswer("m", "v", "i", [sent], {}), raw=raw)
    (output,) = answer.outputs
    request = ModelInferRequest(model_name=answer.model_name, model_version=answer.model_version, id=answer.id)
    asked = request.inputs.add(name=output.name, datatype=output.datatype, shape=output.shape)
    if raw:
        request.raw_input_contents.extend(answer.raw_output_contents)
    else:
        asked.contents.CopyFrom(contents_of(sent))
    found = read_request(request)
    assert (found.model, found.version, found.id) == ("m", "v", "i")
    np.testing.assert_array_equal(found.inputs[0].values, sent.values)
    assert found.inputs[0].datatype == sent.datatype


@given(tensors(), st.integers(-3, 3).filter(bool))
def test_contents_of_another_length_are_refused(sent: Tensor, more: int) -> None:
    content = sent.to_bytes()
    content = content[:more] if more < 0 else content + b"\0" * more
    with pytest.raises(InvalidInference, match=r"^t: "):
        from_bytes("t", sent.datatype, sent.values.shape, content)


@given(st.text(max_size=6), st.lists(st.integers(-(2**63), 2**63), max_size=10), st.binary(max_size=40))
def test_anything_at_all_is_a_tensor_or_refused(datatype: str, shape: list[int], content: bytes) -> None:
    for name in (datatype, "FP32", "BOOL"):
        try:
            found = from_bytes("t", name, shape, content)
        except InvalidInference:
            continue
        assert found.values.nbytes == len(content)


@pytest.mark.parametrize(
    ("datatype", "values"),
    [
        ("INT8", [128]),
        ("UINT8", [-1]),
        ("INT64", [2**63]),
        ("INT32", [1.0]),
        ("INT32", [True]),
        ("INT32", [None]),
        ("FP32", [True]),
        ("FP32", ["1"]),
        ("FP64", [10**400]),
        ("FP32", [[1.0]]),
        ("BOOL", [1]),
        ("BYTES", [b"x"]),
        ("BF16", [1.0]),
        ("", [1.0]),
    ],
)
def test_elements_that_are_not_of_the_datatype_are_refused(datatype: str, values: list[Any]) -> None:
    with pytest.raises(InvalidInference, match=r"^t: .+; .+"):
        from_values("t", datatype, [1], values)


def test_a_null_is_nan_in_floating_point_only() -> None:
    assert np.isnan(from_values("t", "FP64", [2], [1.5, None]).values).tolist() == [False, True]


def test_a_bool_is_one_of_two_bytes() -> None:
    assert from_bytes("t", "BOOL", [2], b"\x00\x01").values.tolist() == [False, True]
    with pytest.raises(InvalidInference, match="neither 0 nor 1"):
        from_bytes("t", "BOOL", [2], b"\x00\x02")


@pytest.mark.parametrize("shape", [[], [0], [2, -1], [1] * 9])
def test_a_shape_has_one_to_eight_sizes(shape: list[int]) -> None:
    with pytest.raises(InvalidInference, match="shape"):
        from_bytes("t", "FP32", shape, b"")


def test_an_integer_out_of_range_is_refused_however_it_comes() -> None:
    for datatype, field, value in (("INT8", "int_contents", 300), ("UINT16", "uint_contents", 70_000)):
        request = ModelInferRequest(model_name="m")
        tensor = request.inputs.add(name="t", datatype=datatype, shape=[1])
        getattr(tensor.contents, field).append(value)
        with pytest.raises(InvalidInference, match=f"out of the range of {datatype}"):
            read_request(request)


def test_too_many_elements_are_refused_before_they_are_looked_at() -> None:
    request = ModelInferRequest(model_name="m")
    request.inputs.add(name="t", datatype="nonsense", shape=[3, 2])
    with pytest.raises(InvalidInference, match="6 elements where the model takes 5"):
        read_request(request, max_elements=5)
    with pytest.raises(InvalidInference, match="nonsense"):
        read_request(request, max_elements=6)
    sent = b'{"inputs": [{"name": "t", "datatype": "FP32", "shape": [2, 2], "data": [1, 2, "x", 4]}]}'
    with pytest.raises(InvalidInference, match="4 elements where the model takes 3"):
        json_bodies.read_request("m", "", sent, None, max_elements=3)
    with pytest.raises(InvalidInference, match="element 2 is no FP32"):
        json_bodies.read_request("m", "", sent, None, max_elements=4)


def test_data_that_is_no_list_is_refused() -> None:
    sent = b'{"inputs": [{"name": "t", "datatype": "FP32", "shape": [1], "data": "12"}]}'
    with pytest.raises(InvalidInference, match="its data is no list"):
        json_bodies.read_request("m", "", sent, None)
