"""The HTTP face of serving."""
