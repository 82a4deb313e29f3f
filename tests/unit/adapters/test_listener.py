"""A port that runs out of descriptors waits and goes on."""

from __future__ import annotations

import asyncio
import errno
import socket

import pytest

from flywheel.adapters import listener as module
from flywheel.adapters.listener import Listener, bound


class Starved(socket.socket):
    """Has no descriptor to spare at first."""

    tries = 0

    def accept(self) -> tuple[socket.socket, object]:
        self.tries += 1
        if self.tries == 1:
            raise OSError(errno.EMFILE, "too many open files")
        return super().accept()


async def test_a_port_out_of_descriptors_accepts_a_moment_later_and_does_not_spin(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_RETRY_S", 0.05)
    taken = await bound("127.0.0.1:0")
    starved = Starved(fileno=taken.detach())
    accepted: asyncio.Queue[socket.socket] = asyncio.Queue()
    listener = Listener(starved, accepted.put_nowait)
    listener.open()
    with socket.create_connection(("127.0.0.1", listener.port)):
        async with asyncio.timeout(5):
            (await accepted.get()).close()
    # Once without a descriptor, once with, once to see that there is nobody else.
    assert starved.tries == 3
    listener.close()


async def test_all_who_are_connected_when_the_port_closes_are_served() -> None:
    accepted: list[socket.socket] = []
    listener = Listener(await bound("127.0.0.1:0"), accepted.append)
    listener.open()
    clients = [socket.create_connection(("127.0.0.1", listener.port)) for _ in range(200)]
    listener.close()
    assert len(accepted) == 200
    for connected in clients + accepted:
        connected.close()


async def test_a_taken_address_is_an_error_even_for_one_that_would_share_it() -> None:
    with await bound("127.0.0.1:0") as first, pytest.raises(OSError, match="in use"):
        await bound(f"127.0.0.1:{first.getsockname()[1]}")
