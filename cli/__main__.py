"""`python -m cli`: what the `headrace` script runs."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line of this process."""
    from cli.app import run  # noqa: PLC0415 - nothing heavy is imported before somebody asks for it

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
