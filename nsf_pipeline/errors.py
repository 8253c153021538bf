"""The error for mistakes that the user can correct, and how messages quote what a user gave."""


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
