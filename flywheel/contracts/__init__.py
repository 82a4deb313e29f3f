"""What crosses a process boundary: events, topics, decisions, model manifests, metrics, settings."""
