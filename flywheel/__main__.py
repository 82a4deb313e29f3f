"""`python -m flywheel`: the command-line client."""

from __future__ import annotations

import sys

from flywheel.client.commands import main

if __name__ == "__main__":
    sys.exit(main())
