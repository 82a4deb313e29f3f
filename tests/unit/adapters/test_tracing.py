"""Spans as a collector gets them."""

from __future__ import annotations

import socket
import time

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from flywheel.adapters.tracing import UNTRACED, OtlpTracing, SpanKind, open_tracing
from flywheel.contracts.settings import PlatformSettings
from tests.trace_collector import collecting

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = PARENT[:-2] + "00"


def test_a_span_goes_on_where_the_request_came_from_and_its_context_goes_on_from_it() -> None:
    with collecting() as collector:
        tracing = OtlpTracing("ingest", collector.url, share=0.0)
        with tracing.span("take", PARENT, kind=SpanKind.SERVER) as handed_on:
            pass
        tracing.tell("make visible", handed_on, 2_000, 5_000, {"n": 3}, {})
        tracing.close()
    taken, visible = collector.named("take"), collector.named("make visible")
    assert [service for service, _ in collector.spans] == ["flywheel-ingest"] * 2
    assert taken.trace_id.hex() == visible.trace_id.hex() == PARENT.split("-")[1]
    assert taken.parent_span_id.hex() == PARENT.split("-")[2]
    assert visible.parent_span_id == taken.span_id
    assert handed_on == f"00-{taken.trace_id.hex()}-{taken.span_id.hex()}-01"
    assert (visible.start_time_unix_nano, visible.end_time_unix_nano) == (2_000, 5_000)
    assert visible.attributes[0].value.int_value == 3


def test_stages_follow_each_other_within_their_span() -> None:
    with collecting() as collector:
        tracing = OtlpTracing("serving", collector.url, share=1.0)
        tracing.tell("decide", "", 10_000_000, 14_000_000, {}, {"features": 2.0, "model": 1.5})
        tracing.close()
    decide, features, model = (collector.named(name) for name in ("decide", "features", "model"))
    assert {features.parent_span_id, model.parent_span_id} == {decide.span_id}
    assert (features.start_time_unix_nano, features.end_time_unix_nano) == (10_000_000, 12_000_000)
    assert (model.start_time_unix_nano, model.end_time_unix_nano) == (12_000_000, 13_500_000)


@pytest.mark.parametrize(("parent", "share"), [(UNSAMPLED, 1.0), ("", 0.0)])
def test_what_nobody_follows_is_neither_sent_nor_handed_on(parent: str, share: float) -> None:
    with collecting() as collector:
        tracing = OtlpTracing("ingest", collector.url, share)
        with tracing.span("take", parent) as handed_on:
            assert handed_on == ""
        tracing.tell("decide", parent, 0, 1, {}, {"features": 1.0})
        tracing.close()
    assert collector.spans == []


def test_a_foreign_traceparent_begins_a_new_trace() -> None:
    with collecting() as collector:
        tracing = OtlpTracing("ingest", collector.url, share=1.0)
        with tracing.span("take", "not a traceparent"):
            pass
        tracing.close()
    assert collector.named("take").parent_span_id == b""


def test_a_span_whose_work_fails_says_so_and_nothing_of_the_request() -> None:
    with collecting() as collector:
        tracing = OtlpTracing("ingest", collector.url, share=1.0)
        with pytest.raises(ValueError, match="secret"), tracing.span("take"):
            raise ValueError("secret")
        tracing.close()
    assert collector.named("take").status.code == Status.STATUS_CODE_ERROR
    assert "secret" not in str(collector.named("take"))


def test_a_collector_that_is_away_stops_nobody(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        away = taken.getsockname()[1]
    tracing = OtlpTracing("ingest", f"http://127.0.0.1:{away}", share=1.0)
    with tracing.span("take") as handed_on:
        assert handed_on
    caplog.set_level("CRITICAL")
    tracing.close()


def test_a_collector_that_does_not_answer_is_left_alone_when_the_time_is_over() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        tracing = OtlpTracing("ingest", f"http://127.0.0.1:{silent.getsockname()[1]}", share=1.0)
        for _ in range(600):
            tracing.tell("decide", "", 1, 2, {}, {"features": 1.0, "model": 1.0, "policy": 1.0, "queue": 1.0})
        began_s = time.perf_counter()
        tracing.close(timeout_s=0.2)
        assert time.perf_counter() - began_s < 2.0


def test_callers_who_ask_for_every_trace_get_so_many_in_a_second() -> None:
    now_s = 0.0
    with collecting() as collector:
        tracing = OtlpTracing("serving", collector.url, share=1.0, requests_per_s=2, steady_s=lambda: now_s)
        for second in range(2):
            now_s = float(second)
            with tracing.span(f"take {second}", PARENT) as handed_on:
                assert handed_on
            for _ in range(3):
                tracing.tell(f"decide {second}", PARENT, 0, 9_000_000, {}, {"features": 1.0, "model": 1.0})
            with tracing.span(f"late {second}", PARENT) as handed_on:
                assert handed_on == ""
        tracing.close()
    names = sorted(span.name for _, span in collector.spans)
    assert names == ["decide 0", "decide 1", "features", "features", "model", "model", "take 0", "take 1"]


def test_what_is_not_followed_takes_no_place_of_what_is() -> None:
    with collecting() as collector:
        tracing = OtlpTracing("serving", collector.url, share=0.0, requests_per_s=1, steady_s=lambda: 0.0)
        for parent in ("", UNSAMPLED, PARENT):
            tracing.tell("decide", parent, 0, 1, {}, {})
        tracing.close()
    assert [span.trace_id.hex() for _, span in collector.spans] == [PARENT.split("-")[1]]


def test_without_an_endpoint_nothing_is_traced() -> None:
    tracing = open_tracing("ingest", PlatformSettings(tracing_endpoint=""))
    assert tracing is UNTRACED
    with tracing.span("take", PARENT) as handed_on:
        assert (tracing.on, handed_on) == (False, "")
