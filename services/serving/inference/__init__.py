"""The models on rows that callers bring, by the Open Inference Protocol."""
