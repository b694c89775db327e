"""The `asyncjobs` program: `asyncjobs` and `python -m asyncjobs`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; a Ctrl-C while it is still being loaded ends it as quietly as one later."""
    try:
        from asyncjobs.cli import main as run
    except KeyboardInterrupt:
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
