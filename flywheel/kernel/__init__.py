"""The rules of the platform. Pure: no clock, no randomness, no input or output of its own."""
