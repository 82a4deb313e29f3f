"""One technology a file. Each adapter fulfils a port of `flywheel.kernel.ports`."""
