"""Reads of a store that is away, hangs, or is asked by many at once."""

from __future__ import annotations

import asyncio

import pytest

from flywheel.adapters.redis_store import RedisFeatureReader, RedisFeatureWriter
from flywheel.kernel.ports import (
    Question,
    StateWrite,
    Stored,
    Unavailable,
    ViewKey,
)
from tests.feature_stores import CARD, PLAN, rows


async def test_a_store_that_is_away_is_unavailable(unused_tcp_port: int) -> None:
    url = f"redis://127.0.0.1:{unused_tcp_port}/0"
    reader, writer = RedisFeatureReader(url, PLAN), RedisFeatureWriter(url, PLAN)
    with pytest.raises(Unavailable):
        await reader.read(Question([CARD]), 0.2)
    with pytest.raises(Unavailable):
        writer.write({CARD: StateWrite(b"", 1)})
    with pytest.raises(Unavailable):
        writer.append({CARD: rows((1, 0, 1))}, {})
    await reader.close()
    writer.close()


async def test_a_store_that_hangs_is_unavailable_in_time() -> None:
    async def never(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            writer.close()

    server = await asyncio.start_server(never, "127.0.0.1", 0)
    reader = RedisFeatureReader(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0", PLAN)
    started = asyncio.get_running_loop().time()
    with pytest.raises(Unavailable, match="did not answer within"):
        await reader.read(Question([CARD]), 0.05)
    assert asyncio.get_running_loop().time() - started < 1.0
    await reader.close()
    server.close()


@pytest.mark.engine
async def test_many_reads_at_once_are_all_answered(redis_server: str) -> None:
    writer, reader = RedisFeatureWriter(redis_server, PLAN), RedisFeatureReader(redis_server, PLAN)
    key = ViewKey("fraud_card_tiles", "many")
    writer.write({key: StateWrite(b"state", 1)})
    answers = await asyncio.gather(*(reader.read(Question([key]), 5.0) for _ in range(128)))
    assert [answer.stored for answer in answers] == [[Stored(b"state")]] * 128
    await reader.close()
    writer.close()


@pytest.mark.engine
async def test_reads_that_gave_up_waiting_leave_the_connection_usable(redis_server: str) -> None:
    reader = RedisFeatureReader(redis_server, PLAN)
    await asyncio.gather(*(reader.read(Question([CARD]), 0.0005 * n) for n in range(40)), return_exceptions=True)
    answers = await asyncio.gather(*(reader.read(Question([CARD]), 5.0) for _ in range(8)))
    assert len(answers) == 8
    await reader.close()
