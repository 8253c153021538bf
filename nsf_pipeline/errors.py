"""The error whose message is for the user."""


class UserError(ValueError):
    """Something that its user can mend: the message is one line and says how."""
