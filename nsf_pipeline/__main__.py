"""`python -m nsf_pipeline`, also where the command line cannot be imported."""

import os
import sys

PYTHONS = (3, 11), (3, 13)
"""The first and the last Python that this package runs on."""


def entry() -> None:
    """Run the command line, and exit."""
    if not PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        first, last = ("%d.%d" % version for version in PYTHONS)  # noqa: UP031 (any Python reads it)
        sys.exit(f"nsf_pipeline: expected Python {first} to {last}, got {sys.version.split()[0]}")
    try:
        from nsf_pipeline.cli import entry as run
    except KeyboardInterrupt:
        os.write(2, b"nsf_pipeline: interrupted\n")
        os._exit(130)
    except ImportError as error:
        from nsf_pipeline.errors import line_for

        sys.exit(f"nsf_pipeline: {line_for(error)}")
    run()


if __name__ == "__main__":
    if not __package__:  # run as a file or folder: Python then searches there, not beside it
        sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    entry()
