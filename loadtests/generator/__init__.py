"""An open-loop load generator: schedules, connections, and what became of every request."""
