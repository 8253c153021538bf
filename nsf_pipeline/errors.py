"""The error whose message is for the user."""


class UserError(ValueError):
    """An error that the user can correct: the message is one line and says how."""
