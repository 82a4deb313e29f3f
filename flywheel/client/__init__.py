"""What a person or a simulated world uses from outside: decide, replay, world."""
