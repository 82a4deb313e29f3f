"""The edge lane: newly acknowledged events become visible to decisions at once, ahead of the stream."""
