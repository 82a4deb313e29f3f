"""What goes along with a request, by its name in gRPC metadata and HTTP headers."""

from __future__ import annotations

CRITICALITY = "flywheel-criticality"
"""How much a request matters to its caller: critical, default or sheddable."""
TRACEPARENT = "traceparent"
"""The trace that a request belongs to, as W3C Trace Context writes it; of records in Kafka as well."""
