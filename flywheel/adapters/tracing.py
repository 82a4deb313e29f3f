"""Traces by OpenTelemetry: spans of what a process does for a request, sent to any collector that speaks OTLP.

Where a trace goes on in another process its context travels as a W3C `traceparent`: in an HTTP header, in gRPC
metadata, in the headers of a Kafka record.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, Sampler, SamplingResult, TraceIdRatioBased
from opentelemetry.trace import Link, SpanKind, Status, StatusCode, TraceState
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from flywheel.contracts.metadata import TRACEPARENT
from flywheel.contracts.settings import PlatformSettings

__all__ = ["UNTRACED", "OtlpTracing", "SpanKind", "Tracing", "open_tracing"]

Attributes = Mapping[str, str | int | float | bool]

_EXPORT_TIMEOUT_S = 5.0
_SPANS_KEPT = 8_192
"""While the collector is away; what is beyond is dropped rather than waited for."""

_REQUESTS_PER_S = 100
"""Of each process. One with its stages takes a tenth of a millisecond of the loop that answers everybody, and any
caller can ask for it: so many take a few hundredths of a core at most."""

_PROPAGATOR = TraceContextTextMapPropagator()


class Tracing(Protocol):
    """What a process tells of its work. Nothing of it may fail or delay that work."""

    @property
    def on(self) -> bool:
        """Whether anything is told; nobody needs to collect what to tell otherwise."""

    def span(self, name: str, parent: str = "", *, kind: SpanKind = SpanKind.INTERNAL) -> AbstractContextManager[str]:
        """A span around what happens within, failed when that raises.

        `parent` is the `traceparent` that came with the request. The value is that of the span, to be handed on;
        empty where nobody follows this trace.
        """

    def tell(
        self,
        name: str,
        parent: str,
        began_ns: int,
        ended_ns: int,
        attributes: Attributes,
        stages: Mapping[str, float],
        *,
        kind: SpanKind = SpanKind.SERVER,
        error: str = "",
    ) -> None:
        """A span of what is over already; times since the Unix epoch. `stages`: milliseconds each took, in their order,
        from its beginning on; each becomes a span within it. With `error` the span has failed, and that is why."""

    def close(self, timeout_s: float = _EXPORT_TIMEOUT_S) -> None:
        """Sends what was not sent yet, as far as that is done in time."""


class Untraced:
    """Tells nothing."""

    on = False
    _nothing = nullcontext("")

    def span(self, *_: object, **__: object) -> AbstractContextManager[str]:
        return self._nothing

    def tell(self, *_: object, **__: object) -> None: ...

    def close(self, timeout_s: float = 0.0) -> None: ...


UNTRACED = Untraced()


class OtlpTracing:
    """Sends spans over HTTP to `endpoint`, in batches and from a thread of its own.

    `share` of the traces that begin here are sent; one that began elsewhere is sent if it was there. Of both together
    at most `requests_per_s` are.
    """

    on = True

    def __init__(
        self,
        service: str,
        endpoint: str,
        share: float,
        *,
        requests_per_s: int = _REQUESTS_PER_S,
        steady_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sampler = _Capped(ParentBased(TraceIdRatioBased(share)), requests_per_s, steady_s)
        self._provider = TracerProvider(
            resource=Resource.create({SERVICE_NAME: f"flywheel-{service}"}),
            sampler=self._sampler,
            # That would wait for the collector as long as it likes.
            shutdown_on_exit=False,
        )
        exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=_EXPORT_TIMEOUT_S)
        self._provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=_SPANS_KEPT))
        self._tracer = self._provider.get_tracer("flywheel")

    @contextmanager
    def span(self, name: str, parent: str = "", *, kind: SpanKind = SpanKind.INTERNAL) -> Iterator[str]:
        """As the port says."""
        span = self._tracer.start_span(name, _context(parent), kind=kind)
        try:
            yield _traceparent(span)
        except BaseException as error:
            span.set_status(Status(StatusCode.ERROR, type(error).__name__))
            raise
        finally:
            span.end()

    def tell(
        self,
        name: str,
        parent: str,
        began_ns: int,
        ended_ns: int,
        attributes: Attributes,
        stages: Mapping[str, float],
        *,
        kind: SpanKind = SpanKind.SERVER,
        error: str = "",
    ) -> None:
        """As the port says."""
        if self._sampler.is_exhausted():
            return
        span = self._tracer.start_span(name, _context(parent), kind=kind, attributes=attributes, start_time=began_ns)
        if span.is_recording():
            within, at_ns = trace.set_span_in_context(span), began_ns
            for stage, spent_ms in stages.items():
                until_ns = at_ns + int(spent_ms * 1e6)
                self._tracer.start_span(stage, within, start_time=at_ns).end(until_ns)
                at_ns = until_ns
            if error:
                span.set_status(Status(StatusCode.ERROR, error))
        span.end(ended_ns)

    def close(self, timeout_s: float = _EXPORT_TIMEOUT_S) -> None:
        """Sends what was not sent yet; a collector that does not answer is left alone when the time is over."""
        # The provider's own limits bound neither a flush nor a shutdown, hence a thread that nobody waits for.
        closing = threading.Thread(target=self._provider.shutdown, name="tracing-close", daemon=True)
        closing.start()
        closing.join(timeout_s)


class _Capped(Sampler):
    """Samples as another one does, and so many requests in a second at most; what is within a sampled one is free."""

    def __init__(self, sampler: Sampler, per_s: int, steady_s: Callable[[], float]) -> None:
        self._sampler = sampler
        self._per_s = self._left = per_s
        self._steady_s = steady_s
        self._since_s = steady_s()

    def is_exhausted(self) -> bool:
        """Whether no request is sampled for the rest of this second."""
        now_s = self._steady_s()
        if now_s - self._since_s >= 1.0:
            self._since_s, self._left = now_s, self._per_s
        return self._left <= 0

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Any = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,  # noqa: ARG002  the SDK's; samplers take it from the context
    ) -> SamplingResult:
        """As the other sampler says, within the cap."""
        parent = trace.get_current_span(parent_context).get_span_context()
        result = self._sampler.should_sample(parent_context, trace_id, name, kind, attributes, links)
        if result.decision is not Decision.RECORD_AND_SAMPLE or (parent.is_valid and not parent.is_remote):
            return result
        if self.is_exhausted():
            return SamplingResult(Decision.DROP)
        self._left -= 1
        return result

    def get_description(self) -> str:
        """Itself in words."""
        return f"{self._sampler.get_description()}, at most {self._per_s}/s"


def open_tracing(service: str, settings: PlatformSettings) -> Tracing:
    """Tracing as the settings say: off without an endpoint."""
    if not settings.tracing_endpoint:
        return UNTRACED
    return OtlpTracing(service, settings.tracing_endpoint, settings.tracing_share)


def _context(traceparent: str) -> Context:
    # A context of its own: never that of whatever happens to run.
    return _PROPAGATOR.extract({TRACEPARENT: traceparent}, Context()) if traceparent else Context()


def _traceparent(span: trace.Span) -> str:
    if not span.is_recording():
        return ""
    found: dict[str, str] = {}
    _PROPAGATOR.inject(found, trace.set_span_in_context(span, Context()))
    return found[TRACEPARENT]
