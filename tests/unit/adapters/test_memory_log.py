"""The in-memory broker can go away, as the real one can."""

from __future__ import annotations

import pytest

from flywheel.adapters.memory_log import MemoryBroker, MemoryEventLog, MemoryReader
from flywheel.kernel.ports import Unavailable


async def test_a_broker_that_is_away_takes_and_gives_nothing() -> None:
    broker = MemoryBroker()
    log, reader = MemoryEventLog(broker), MemoryReader(broker, ["t"], "g")
    await log.append("t", [(b"k", b"1")])
    broker.away = True
    (failure,) = await log.append("t", [(b"k", b"2")])
    assert isinstance(failure, Unavailable)
    assert not await log.ready()
    assert reader.poll(0, 10) == []
    with pytest.raises(Unavailable):
        reader.commit()
    with pytest.raises(Unavailable):
        reader.lag()
    broker.away = False
    assert [record.value for record in reader.poll(0, 10)] == [b"1"]
