"""Load on a whole running stack: nothing lost, nothing growing, answers in time."""
