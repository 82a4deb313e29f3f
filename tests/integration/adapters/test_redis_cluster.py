"""The online store on a Redis Cluster while that changes: slots that move, nodes that die, hang and come back."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator

import pytest

from flywheel.adapters.redis_cluster_client import ClusterRedis
from flywheel.adapters.redis_layout import Layout
from flywheel.adapters.redis_slots import slot_of
from flywheel.adapters.redis_store import RedisFeatureReader, RedisFeatureWriter
from flywheel.kernel.ports import (
    Answer,
    Lane,
    PartlyUnavailable,
    Question,
    StateWrite,
    Stored,
    StoreProgress,
    Unavailable,
    ViewKey,
)
from infra.local import redis_cluster
from tests.feature_stores import PLAN, VIEW
from tests.redis_cluster_scene import ClusterScene, formed_cluster

pytestmark = pytest.mark.engine

KEYS = [ViewKey(VIEW.name, f"e{number}") for number in range(60)]
PROGRESS = StoreProgress(5, 6, 7)
TIMEOUT_S = 2.0
SOON_S = 30.0


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterScene]:
    with formed_cluster(tmp_path_factory.mktemp("cluster")) as made:
        yield made


@pytest.fixture
def writer(scene: ClusterScene) -> Iterator[RedisFeatureWriter]:
    """Of a store where each of the keys has a state, which it counted, and whose progress is known."""
    for port in scene.ports:
        scene.node(port).flushall()
    made = RedisFeatureWriter(scene.url, PLAN)
    assert made.write({key: StateWrite(state_of(key), 1, counted={"events": 1}) for key in KEYS}) == []
    made.absorb({0: 1}, None)
    made.report(Lane.TILES, PROGRESS)
    yield made
    made.close()


def state_of(key: ViewKey) -> bytes:
    return f"state of {key.entity_id}".encode()


def place_of(scene: ClusterScene, key: ViewKey) -> bytes:
    return Layout(scene.url, PLAN).entity(key)


def by_port(scene: ClusterScene) -> dict[int, list[ViewKey]]:
    found: dict[int, list[ViewKey]] = {port: [] for port in scene.ports}
    for key in KEYS:
        found[scene.port_of(place_of(scene, key))].append(key)
    assert all(found.values())
    return found


def progress_port(scene: ClusterScene) -> int:
    return scene.port_of(Layout(scene.url, PLAN).progress_key.encode())


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    until_s = time.monotonic() + SOON_S
    while not await condition():
        assert time.monotonic() < until_s
        await asyncio.sleep(0.02)


async def answered(reader: RedisFeatureReader, keys: list[ViewKey]) -> Answer | None:
    try:
        return await reader.read(Question(keys), TIMEOUT_S)
    except Unavailable:
        return None


def test_keys_lie_on_all_nodes_and_what_they_count_beside_them(scene: ClusterScene, writer: RedisFeatureWriter) -> None:
    assert all(len(keys) > 5 for keys in by_port(scene).values())
    assert writer.counters() == {"events": len(KEYS)}
    counted = [key for port in scene.ports for key in scene.node(port).keys("*:counted")]
    assert {slot_of(key) for key in counted} == {slot_of(place_of(scene, key)) for key in KEYS}


async def test_reads_and_writes_go_on_while_slots_move(scene: ClusterScene, writer: RedisFeatureWriter) -> None:
    reader, moved = RedisFeatureReader(scene.url, PLAN), threading.Event()
    source, target = scene.ports[:2]
    slots = sorted({slot_of(place_of(scene, key)) for key in by_port(scene)[source]})

    def move() -> None:
        for slot in slots:
            scene.move(slot, source, target)
        moved.set()

    states = {key: state_of(key) for key in KEYS}

    def write(number: int) -> None:
        writes = {}
        for key in KEYS:
            newer = b"%s after write %08d" % (key.entity_id.encode(), number)
            writes[key] = StateWrite(newer, 1, StateWrite.ending_of(states[key]), {"events": 1})
        assert writer.write(writes) == []
        states.update({key: each.state for key, each in writes.items()})

    await asyncio.gather(*(reader.read(Question([key]), TIMEOUT_S) for key in KEYS))
    moving = asyncio.create_task(asyncio.to_thread(move))
    writes = 0
    while not moved.is_set() or not writes:
        before = asyncio.create_task(asyncio.to_thread(write, writes))
        while not before.done():
            answer = await reader.read(Question(KEYS), TIMEOUT_S)
            assert all(stored.state is not None for stored in answer.stored)
            assert answer.progress == PROGRESS
        await before
        writes += 1
    await moving
    answer = await reader.read(Question(KEYS), TIMEOUT_S)
    assert [stored.state for stored in answer.stored] == [states[key] for key in KEYS]
    assert writer.counters() == {"events": len(KEYS) * (1 + writes)}
    assert {scene.port_of(place_of(scene, key)) for key in KEYS} == set(scene.ports[1:])
    await reader.close()
    for slot in slots:
        scene.move(slot, target, source)


async def test_a_slot_that_is_half_moved_is_read_from_both_and_written_once_it_has_moved(
    scene: ClusterScene, writer: RedisFeatureWriter
) -> None:
    source, target = scene.ports[:2]
    key, reader = by_port(scene)[source][0], RedisFeatureReader(scene.url, PLAN)
    slot = slot_of(place_of(scene, key))
    scene.begin_move(slot, source, target)
    assert scene.move_keys(slot, source, target) == 2
    answer = await reader.read(Question([key, *KEYS]), TIMEOUT_S)
    assert answer.stored[0] == Stored(state_of(key))
    assert writer.read([key]) == [Stored(state_of(key))]
    ending = threading.Timer(0.3, scene.end_move, (slot, source, target))
    ending.start()
    unknown = ViewKey(VIEW.name, key.entity_id)
    assert writer.write({unknown: StateWrite(b"newer 12345678", 2, state_of(key)[-8:], {"events": 5})}) == []
    ending.join()
    assert (await reader.read(Question([key]), TIMEOUT_S)).stored == [Stored(b"newer 12345678")]
    assert writer.counters() == {"events": len(KEYS) + 5}
    await reader.close()
    scene.move(slot, target, source)


async def test_while_a_node_is_away_only_its_entities_are_and_all_come_back_with_it(
    scene: ClusterScene, writer: RedisFeatureWriter
) -> None:
    reader, keys = RedisFeatureReader(scene.url, PLAN), by_port(scene)
    dead = next(port for port in scene.ports if port != progress_port(scene))
    alive = [key for port in scene.ports if port != dead for key in keys[port]]
    assert (await reader.read(Question(KEYS), TIMEOUT_S)).progress == PROGRESS
    scene.kill(dead)
    reads = 0
    # Before the others have noticed as after.
    while reads < 3 or not scene.is_given_up(dead):
        for key in keys[dead]:
            with pytest.raises(PartlyUnavailable):
                await reader.read(Question([key, alive[0]]), TIMEOUT_S)
        found = await reader.read(Question(alive), TIMEOUT_S)
        assert found == Answer([Stored(state_of(key)) for key in alive], PROGRESS)
        reads += 1
    assert (await reader.read(Question(alive), TIMEOUT_S)).progress == PROGRESS
    assert writer.read(alive) == [Stored(state_of(key)) for key in alive]
    with pytest.raises(Unavailable):
        writer.read(KEYS)
    scene.start(dead)

    async def is_back() -> bool:
        return await answered(reader, KEYS) == Answer([Stored(state_of(key)) for key in KEYS], PROGRESS)

    await eventually(is_back)
    scene.form()
    assert writer.read(KEYS) == [Stored(state_of(key)) for key in KEYS]
    await reader.close()


async def test_without_the_node_that_knows_the_progress_the_states_of_the_others_are_there(
    scene: ClusterScene, writer: RedisFeatureWriter
) -> None:
    del writer
    reader, keys, dead = RedisFeatureReader(scene.url, PLAN), by_port(scene), progress_port(scene)
    alive = [key for port in scene.ports if port != dead for key in keys[port]]
    await reader.read(Question(KEYS), TIMEOUT_S)
    scene.kill(dead)
    found = await reader.read(Question(alive), TIMEOUT_S)
    assert found == Answer([Stored(state_of(key)) for key in alive], None)
    with pytest.raises(PartlyUnavailable):
        await reader.read(Question(keys[dead][:1]), TIMEOUT_S)
    scene.start(dead)

    async def is_known() -> bool:
        answer = await answered(reader, KEYS)
        return answer is not None and answer.progress == PROGRESS

    await eventually(is_known)
    scene.form()
    await reader.close()


async def test_a_node_that_hangs_is_soon_not_waited_for(scene: ClusterScene, writer: RedisFeatureWriter) -> None:
    del writer
    reader, keys = RedisFeatureReader(scene.url, PLAN), by_port(scene)
    hanging = next(port for port in scene.ports if port != progress_port(scene))
    (other,) = next(keys[port] for port in scene.ports if port not in (hanging, progress_port(scene)))[:1]
    await reader.read(Question(KEYS), TIMEOUT_S)

    async def refuses_at_once() -> bool:
        before_s = time.monotonic()
        with pytest.raises(PartlyUnavailable):
            await reader.read(Question([keys[hanging][0], other]), 0.2)
        return time.monotonic() - before_s < 0.1

    with scene.hanging(hanging):
        await eventually(refuses_at_once)
        assert (await reader.read(Question([other]), TIMEOUT_S)).stored == [Stored(state_of(other))]

    async def is_back() -> bool:
        return await answered(reader, KEYS) is not None

    await eventually(is_back)
    scene.form()
    await reader.close()


async def test_a_cluster_that_is_away_is_unavailable_and_the_same_again_when_it_is_back(
    scene: ClusterScene, writer: RedisFeatureWriter
) -> None:
    reader = RedisFeatureReader(scene.url, PLAN)
    await reader.read(Question(KEYS), TIMEOUT_S)
    scene.kill(*scene.ports)
    with pytest.raises(Unavailable) as caught:
        await reader.read(Question(KEYS), TIMEOUT_S)
    assert not isinstance(caught.value, PartlyUnavailable)
    with pytest.raises(Unavailable):
        writer.read(KEYS)
    late = RedisFeatureReader(scene.url, PLAN)
    with pytest.raises(Unavailable):
        await late.read(Question(KEYS), TIMEOUT_S)
    scene.start(*scene.ports)
    scene.form()
    for each in (reader, late):

        async def is_back(each: RedisFeatureReader = each) -> bool:
            return await answered(each, KEYS) is not None

        await eventually(is_back)
        assert (await each.read(Question(KEYS), TIMEOUT_S)).stored == [Stored(state_of(key)) for key in KEYS]
        await each.close()
    assert writer.counters() == {"events": len(KEYS)}


async def test_scripts_that_were_forgotten_are_loaded_again(scene: ClusterScene, writer: RedisFeatureWriter) -> None:
    for port in scene.ports:
        scene.node(port).script_flush()
    writes = {key: StateWrite(b"later version", 2, state_of(key)[-8:]) for key in KEYS}
    assert writer.write(writes) == []


def test_forming_again_changes_nothing(scene: ClusterScene) -> None:
    before = scene.node(scene.ports[0]).execute_command("CLUSTER", "SLOTS")
    redis_cluster.form(scene.ports)
    assert scene.node(scene.ports[0]).execute_command("CLUSTER", "SLOTS") == before
    client = ClusterRedis(scene.url)
    assert len(client.nodes()) == 3
    client.close()


def test_keys_of_different_slots_are_never_in_one_call(scene: ClusterScene) -> None:
    client = ClusterRedis(scene.url)
    groups = client.callable_together({key: place_of(scene, key) for key in KEYS})
    assert sorted(map(repr, (key for group in groups for key in group))) == sorted(map(repr, KEYS))
    assert all(len({slot_of(place_of(scene, key)) for key in group}) == 1 for group in groups)
    client.close()


async def test_nodes_that_want_a_password_are_given_that_of_the_address(
    scene: ClusterScene, writer: RedisFeatureWriter
) -> None:
    del writer
    clients = [scene.node(port) for port in scene.ports]
    for client in clients:
        client.config_set("requirepass", "s3:c@ret")
    try:
        url = scene.url.replace("://", "://:s3%3Ac%40ret@")
        reader, knowing = RedisFeatureReader(url, PLAN), RedisFeatureWriter(url, PLAN)
        assert knowing.read(KEYS) == (await reader.read(Question(KEYS), TIMEOUT_S)).stored
        await reader.close()
        knowing.close()
        ignorant = RedisFeatureReader(scene.url, PLAN)
        with pytest.raises(Unavailable, match="NOAUTH"):
            await ignorant.read(Question(KEYS), TIMEOUT_S)
        await ignorant.close()
    finally:
        for client in clients:
            client.config_set("requirepass", "")


def test_of_a_node_that_has_lost_its_data_what_it_counted_is_missing(
    scene: ClusterScene, writer: RedisFeatureWriter
) -> None:
    keys, before = by_port(scene), writer.counters_by_place()
    assert sum(counted["events"] for counted in before.values()) == len(KEYS)
    scene.node(scene.ports[1]).flushall()
    assert writer.counters() == {"events": len(KEYS) - len(keys[scene.ports[1]])}
    kept = keys[scene.ports[0]][0]
    more = StateWrite(b"more", 1, StateWrite.ending_of(state_of(kept)), {"events": len(KEYS)})
    assert writer.write({kept: more}) == []
    after = writer.counters_by_place()
    assert writer.counters()["events"] > len(KEYS), "as if nothing were missing"
    assert before.keys() - after.keys(), "but places are"


def test_a_table_that_another_thread_forgets_at_once_has_served(
    scene: ClusterScene, writer: RedisFeatureWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ClusterRedis, "_table", property(lambda _: None, lambda *_: None), raising=False)
    assert writer.read(KEYS[:3]) == [Stored(state_of(key)) for key in KEYS[:3]]
    assert len(ClusterRedis(scene.url).nodes()) == 3
