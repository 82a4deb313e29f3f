"""The models that answer: followed, loaded, verified, taken out, run in shadow."""
