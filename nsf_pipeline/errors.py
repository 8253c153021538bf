"""The error for mistakes that the user can correct."""


class UserError(ValueError):
    """A mistake that the user can correct; the message is one line and says how."""
