"""The gRPC port and who is admitted to it."""
