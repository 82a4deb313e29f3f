"""One folder a problem. Each folder's `__init__` exposes `usecase`, its declaration."""
