"""The edge of an entity: its events that have arrived and that its state may not hold yet, as they came.

It is packed beside the state under the same key, so that one read sees both at one moment.
"""

from __future__ import annotations

import struct

import numpy as np

from flywheel.kernel.plan import TileView
from flywheel.kernel.rows import Cells
from flywheel.kernel.state import ForeignState

HEADER = struct.Struct("<4sIQ")
_MAGIC = b"FWE1"

EDGE_LIMIT = 2_048
"""Events an edge holds before the oldest are taken into the state without waiting for the stream."""


def edge_header(view: TileView) -> bytes:
    """What every edge of the view begins with; the rows follow."""
    return HEADER.pack(_MAGIC, view.row_cells, view.fingerprint)


def pack_edge(view: TileView, rows: Cells) -> bytes:
    """Bytes that `unpack_edge` reads back."""
    return edge_header(view) + rows.tobytes()


def unpack_edge(view: TileView, packed: bytes) -> Cells:
    """The rows in `packed`, without copying them. Raises ForeignState."""
    if len(packed) < HEADER.size or packed[: HEADER.size] != edge_header(view):
        raise ForeignState(f"{view.name}: an edge written under another declaration")
    if (len(packed) - HEADER.size) % (8 * view.row_cells):
        raise ForeignState(f"{view.name}: an edge that is cut off")
    return np.frombuffer(packed, "<i8", offset=HEADER.size).reshape(-1, view.row_cells)
