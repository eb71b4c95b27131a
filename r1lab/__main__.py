"""`r1lab` and `python -m r1lab`. Ctrl-C is one line and exit code 130 while modules load, too."""

import gc
import sys


def main() -> int:
    gc.set_threshold(50_000)  # imports bring half a million objects, and none is garbage
    try:
        from r1lab.cli import main as run  # takes a while: so Ctrl-C may come here
    except KeyboardInterrupt:
        print("r1lab: stopped", file=sys.stderr)
        return 130
    return run()


if __name__ == "__main__":
    sys.exit(main())
