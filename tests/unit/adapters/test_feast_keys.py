"""Entity keys are encoded as Feast encodes them, whatever the order in which a view names its join keys."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import pytest

from flywheel.adapters.feast_keys import EntityKeys
from flywheel.kernel.stored import JoinKey, KeyType

VALUES: dict[JoinKey, Sequence[str | int]] = {
    JoinKey("card_id", KeyType.INT64): [-7, 8],
    JoinKey("terminal_id"): ["t1", "t2"],
    JoinKey("zone", KeyType.INT32): [3, 4],
}
# As Feast 0.67 serializes the first of them; importing it here would change this process's environment.
FIRST = bytes.fromhex(
    "030000000200000007000000636172645f6964020000000b0000007465726d696e616c5f696402000000040000007a6f6e65"
    "0400000008000000f9ffffffffffffff02000000020000007431030000000400000003000000"
)


@pytest.mark.parametrize("join_keys", list(permutations(VALUES)))
def test_the_order_of_the_join_keys_is_the_callers_own(join_keys: tuple[JoinKey, ...]) -> None:
    first, second = EntityKeys("fraud", join_keys).encode([VALUES[key] for key in join_keys])
    assert first == FIRST + b"fraud"
    assert second != first


@pytest.mark.parametrize(("join_keys", "columns"), [(1, 0), (1, 2), (2, 1), (2, 3)])
def test_a_column_more_or_less_than_there_are_join_keys_is_refused(join_keys: int, columns: int) -> None:
    keys = EntityKeys("fraud", [JoinKey("card_id"), JoinKey("terminal_id")][:join_keys])
    with pytest.raises(ValueError, match="columns"):
        keys.encode([["x"]] * columns)
