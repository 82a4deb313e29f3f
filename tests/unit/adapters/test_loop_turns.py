"""Between two that became due together, the loop looks at its sockets."""

from __future__ import annotations

import asyncio
import socket

import uvloop

from flywheel.adapters.loop_turns import LoopTurns


async def turns_of(count: int, *, cancelled: tuple[int, ...] = ()) -> list[str]:
    """What happened, in order: `n` went on; a byte was `read`, of which there is always one more."""
    loop, turns, story = asyncio.get_running_loop(), LoopTurns(), list[str]()
    near, far = socket.socketpair()

    def read() -> None:
        near.recv(1)
        story.append("read")
        far.send(b".")

    async def go(number: int) -> None:
        await turns.mine()
        story.append(str(number))

    with near, far:
        loop.add_reader(near, read)
        far.send(b".")
        tasks = [loop.create_task(go(number)) for number in range(count)]
        await asyncio.sleep(0)
        for number in cancelled:
            tasks[number].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        loop.remove_reader(near)
    return story


def check_spread(story: list[str], numbers: list[str]) -> None:
    assert [step for step in story if step != "read"] == numbers
    between = "".join(step if step != "read" else "r" for step in story)
    assert all(f"{number}r" in between for number in numbers[:-1])


def test_one_goes_on_a_turn_in_the_order_in_which_they_came() -> None:
    for run in (asyncio.run, uvloop.run):
        check_spread(run(turns_of(5)), ["0", "1", "2", "3", "4"])


def test_who_was_cancelled_holds_up_nobody() -> None:
    for run in (asyncio.run, uvloop.run):
        check_spread(run(turns_of(5, cancelled=(1, 2))), ["0", "3", "4"])


async def test_one_alone_waits_for_nothing() -> None:
    turns = LoopTurns()
    coroutine = turns.mine()
    try:
        coroutine.send(None)
    except StopIteration:
        pass
    else:
        raise AssertionError("it waited")
    for _ in range(3):
        await asyncio.sleep(0)
        await turns.mine()
