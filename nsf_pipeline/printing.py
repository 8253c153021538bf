"""Printing, which can never fail a job."""

import contextlib


def say(text: str) -> None:
    """Print a line to standard output; what cannot be printed there is dropped or escaped."""
    with contextlib.suppress(OSError, ValueError):
        print(text, flush=True)
