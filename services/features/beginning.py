"""Where the tile query begins after a rebuild."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping

_EARLIEST = -2


def starting_offsets(
    rebuilt: Mapping[str, Mapping[str, int]],
    recent: Mapping[tuple[str, int], int],
    kept: Mapping[tuple[str, int], int],
) -> str:
    """Spark's option `startingOffsets`, which has to name every partition; "earliest" without a rebuild.

    `rebuilt` are the positions up to which the store was rebuilt, `recent` those from which on Spark has to know the
    ids of events, and `kept` the first offset that the broker has of each partition. A partition that was not there at
    the rebuild is read whole.
    """
    if not rebuilt:
        return "earliest"
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for (topic, number), first in kept.items():
        position = rebuilt.get(topic, {}).get(str(number))
        if position is None:
            found[topic][str(number)] = _EARLIEST
        else:
            # The states pass over what they hold. A position that the broker no longer has is left for Spark to refuse.
            earlier = max(recent.get((topic, number), position), first)
            found[topic][str(number)] = min(position, earlier)
    return json.dumps(found)
