"""The error for mistakes that the user can correct, and what messages say of others.

Messages quote what a user or another program gave; it is made short and printable here.
"""

import os

MOST = 300
"""Characters of another program's message that a line quotes, at most."""
OUT_OF_MEMORY = (
    "RESOURCE_EXHAUSTED",  # of JAX's
    "failed to map segment",  # of a library that is loaded
    "Cannot allocate memory",
)


class UserError(ValueError):
    """A mistake that the user can correct; the message is one line and says how."""


def shown(text: str, most: int = 60) -> str:
    """Text from outside as a message shows it: short, and on one line that can be printed.

    Args:
        text: what a user or a file gave.
        most: characters of it to show, at most; where more are left out, their number is said.
    """
    cut = text[:most]
    line = "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode("ascii")
        for each in cut
    )
    return line if len(cut) == len(text) else f"{line}... ({len(text)} characters)"


def on_one_line(text: object, most: int = MOST) -> str:
    """Another program's message as a message shows it; see `shown`."""
    return shown(" ".join(str(text).split()), most)


def line_for(error: BaseException) -> str | None:
    """What to tell the user of an error that a mistake or the machine caused.

    Args:
        error: any.

    Returns:
        One line, or several of a `UserError`; None for an error in the code.
    """
    if isinstance(error, UserError):
        return str(error)
    text = " ".join(str(error).split())
    said = text if len(text) <= MOST else f"{text[:MOST]} …"
    if isinstance(error, MemoryError) or any(part in text for part in OUT_OF_MEMORY):
        return (
            f"out of memory{f': {said}' if said else ''}; lower --jobs, shard_size, "
            "training.batch_size, evaluation.num_samples or runtime.data_memory, or use a machine "
            "with more"
        )
    if isinstance(error, ImportError):
        return (
            f"cannot import what this command needs: {said}; `make setup` in the checkout installs "
            "it (envs/simulation.yaml has no JAX)"
        )
    if isinstance(error, OSError):
        where = error.filename
        try:
            os.getcwd()
        except OSError:
            where = "the current folder"
        return f"{'' if where is None else f'{where}: '}{error.strerror or said}"
    if isinstance(error, RuntimeError) and "can't start new thread" in text:
        return "cannot start a thread: the limit of processes or of memory (`ulimit -a`) is too low"
    return None
