"""Single decisions: calls in, answers, log, metrics, explanations and traces out."""
