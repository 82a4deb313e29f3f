"""Header blocks are decoded as the reference does, whatever is cached and whatever the table forgets."""

from __future__ import annotations

import gc
import tracemalloc
from contextlib import suppress

import pytest
from hpack import Encoder
from hypothesis import given
from hypothesis import strategies as st

from flywheel.adapters.grpc_server.frames import ConnectionFault
from flywheel.adapters.grpc_server.header_blocks import HeaderBlocks

_BEGIN = [(":method", "POST"), (":scheme", "http"), (":path", "/a.B/C"), ("content-type", "application/grpc")]
_NAMES = st.sampled_from(["a", "b", "user-agent", "grpc-x", "n" * 200])
_VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=400)
_POOLS = st.lists(st.dictionaries(_NAMES, _VALUES, max_size=5), min_size=1, max_size=6)
_TABLE_BYTES = st.sampled_from([0, 100, 500, 4_096])


@given(_POOLS, st.lists(st.one_of(st.integers(0, 5), _TABLE_BYTES.map(str)), max_size=80), st.booleans())
def test_any_sequence_of_requests_is_read_as_it_was_sent(
    pool: list[dict[str, str]], steps: list[int | str], huffman: bool
) -> None:
    encoder, blocks = Encoder(), HeaderBlocks(1_000_000)
    for step in steps:
        if isinstance(step, str):
            # Told the same size twice, the reference forgets to announce it.
            if int(step) != encoder.header_table_size:
                encoder.header_table_size = int(step)
            continue
        extra = pool[step % len(pool)]
        head = blocks.head(encoder.encode(_BEGIN + list(extra.items()), huffman=huffman))
        assert head.path == "/a.B/C"
        assert dict(head.metadata) == {"content-type": "application/grpc"} | extra


def test_the_same_bytes_mean_something_else_after_the_table_changed() -> None:
    blocks = HeaderBlocks(16_384)
    for value in (b"one", b"two", b"six"):
        blocks.head(b"\x40\x01x\x03" + value)
        for _ in range(2):
            assert blocks.head(b"\xbe").metadata == {"x": value.decode()}


@pytest.mark.parametrize("sizes", [(200, 160), (100,), (0, 4_096)])
def test_the_table_forgets_what_the_sender_forgets(sizes: tuple[int, ...]) -> None:
    encoder, blocks = Encoder(), HeaderBlocks(16_384)
    fields = [("a", "1" * 10), ("b", "2" * 20), ("c", "3" * 30)]
    for size in (4_096, *sizes):
        encoder.header_table_size = size
        for _ in range(3):
            for extra in fields:
                head = blocks.head(encoder.encode([*_BEGIN, extra]))
                assert head.metadata[extra[0]] == extra[1]
                assert len(head.metadata) == 2


@given(st.binary(max_size=300))
def test_bytes_that_are_no_block_are_a_fault_and_nothing_else(block: bytes) -> None:
    with suppress(ConnectionFault):
        HeaderBlocks(16_384).head(block)


def test_a_block_that_repeats_is_decoded_once() -> None:
    encoder, blocks = Encoder(), HeaderBlocks(16_384)
    blocks.head(encoder.encode(_BEGIN))
    repeated = encoder.encode(_BEGIN)
    first = blocks.head(repeated)
    assert blocks.head(repeated) is first
    blocks.head(encoder.encode([*_BEGIN, ("new", "field")]))
    assert blocks.head(encoder.encode(_BEGIN)).path == "/a.B/C"


def test_a_bomb_of_references_is_not_unpacked() -> None:
    encoder, blocks = Encoder(), HeaderBlocks(16_384)
    blocks.head(encoder.encode([("x", "v" * 3_000)]))
    head = blocks.head(b"\xbe" * 50_000)
    assert (head.is_http, head.metadata) == (True, {})


@pytest.mark.parametrize(
    "block",
    [
        b"\x80",
        b"\xc0",
        b"\x3f\xe2\x1f",
        b"\x88\x20",
        b"\x00\x01a",
        b"\x00\x82\xff\xff\x01b",
        b"\xff\xff\xff\xff\xff\xff\x0f",
    ],
    ids=["index 0", "beyond the table", "table too large", "resize too late", "cut off", "bad huffman", "long integer"],
)
def test_each_way_of_breaking_the_compression_is_noticed(block: bytes) -> None:
    with pytest.raises(ConnectionFault):
        HeaderBlocks(16_384).head(block)


def test_no_long_text_is_kept_when_its_connection_has_gone() -> None:
    texts = [f"{n:04}" * 3_000 for n in range(40)]
    encoder, blocks = Encoder(), HeaderBlocks(16_384)
    tracemalloc.start()
    for text in texts:
        blocks.head(encoder.encode([*_BEGIN, ("a", text)], huffman=True))
    del blocks, encoder
    gc.collect()
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 200_000
