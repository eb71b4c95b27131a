"""`python -m r1lab` is `r1lab`."""

import sys

from r1lab.cli import main

if __name__ == "__main__":
    sys.exit(main())
