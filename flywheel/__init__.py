"""Declare a machine-learning problem once, and its whole production loop runs."""
