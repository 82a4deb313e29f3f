"""What Feast warns of that is none of ours."""

from __future__ import annotations

import pytest

FEAST_WARNS = pytest.mark.filterwarnings(
    "ignore:On demand feature view is an experimental feature:RuntimeWarning",
    "ignore::DeprecationWarning:feast.*",
    "ignore::DeprecationWarning:ibis.*",
    "ignore::FutureWarning:ibis.*",
)
