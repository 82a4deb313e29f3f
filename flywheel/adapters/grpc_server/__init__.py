"""A gRPC server for one event loop: HTTP/2 frames, cohorts of unary calls, early refusal, drain."""
