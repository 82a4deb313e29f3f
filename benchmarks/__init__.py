"""Measured claims: each has a name, one make target that measures it, and a file of figures."""
