"""`python -m pixelseg_agents` is the command `pixelseg`."""

import sys

from pixelseg_agents.cli import main

if __name__ == "__main__":
    sys.exit(main())
