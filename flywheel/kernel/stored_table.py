"""What many hashes hold, where all of them look alike: a column of bytes for each field, and no object for a value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class StoredTable:
    """Messages of some hashes, none of them absent; those of one field have one length."""

    columns: Sequence[NDArray[np.uint8]]
    """One for each field, shape (hashes, bytes)."""

    def rows(self) -> list[list[bytes]]:
        """The same hash by hash, as a list of messages each.

        >>> StoredTable([np.array([[1], [2]], np.uint8), np.array([[3, 4], [5, 6]], np.uint8)]).rows()
        [[b'\\x01', b'\\x03\\x04'], [b'\\x02', b'\\x05\\x06']]
        """
        return [
            list(row) for row in zip(*([each.tobytes() for each in column] for column in self.columns), strict=True)
        ]
