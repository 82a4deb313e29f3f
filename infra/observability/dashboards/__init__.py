"""Grafana's dashboards, declared: one file each, in the order in which one looks at them."""

from infra.observability.dashboards import engines, experiments, features, overview, quality, serving

ALL = (
    overview.DASHBOARD,
    serving.DASHBOARD,
    features.DASHBOARD,
    engines.DASHBOARD,
    quality.DASHBOARD,
    experiments.DASHBOARD,
)
