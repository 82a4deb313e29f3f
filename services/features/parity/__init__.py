"""Parity: features as they were served, beside the same features recomputed from the archive."""
