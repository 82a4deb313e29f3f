"""Rankings: candidates in, the best of them out."""
