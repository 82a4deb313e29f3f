"""Whether one commit, or one setting, is faster than another, and how sure that is."""
