"""Feast's keys are read back as Feast writes them."""

from __future__ import annotations

import pytest

from flywheel.adapters.feast_key_reader import join_keys

# As Feast 0.67 serializes them; importing it here would change this process's environment.
ONE = bytes.fromhex("010000000200000007000000636172645f696402000000020000006331") + b"fraud"
SEVERAL = bytes.fromhex(
    "030000000200000007000000636172645f6964020000000b0000007465726d696e616c5f696402000000040000007a6f6e65"
    "0400000008000000f9ffffffffffffff02000000020000007431030000000400000003000000"
)


def test_one_key() -> None:
    assert join_keys(ONE, "fraud") == {"card_id": "c1"}


def test_several_keys_and_numbers() -> None:
    assert join_keys(SEVERAL + b"fraud", "fraud") == {"card_id": "-7", "terminal_id": "t1", "zone": "3"}


@pytest.mark.parametrize("raw", [b"", b"fraud:progress", b"\x01\x00\x00\x00", b"\xff" * 40, b"\x00" * 40])
def test_what_is_no_key_of_an_entity(raw: bytes) -> None:
    assert join_keys(raw, "fraud") is None


def test_keys_of_other_projects_are_none() -> None:
    assert join_keys(ONE, "ads") is None
