"""What goes along with a request, by its name in gRPC metadata and HTTP headers."""

from __future__ import annotations

CRITICALITY = "flywheel-criticality"
"""How much a request matters to its caller: critical, default or sheddable."""
TRACEPARENT = "traceparent"
"""The trace that a request belongs to, as W3C Trace Context writes it; of records in Kafka as well."""
FIELD_ERRORS = "flywheel-field-errors"
"""Of a refusal: what is wrong with the subject, as JSON in ASCII: a list of objects of `field`, `reason` and `hint`."""
