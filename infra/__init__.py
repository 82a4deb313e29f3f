"""Runs the platform: on this machine, in containers, on a cluster."""
