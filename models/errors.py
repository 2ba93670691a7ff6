"""Errors that a user can mend; the lowest room has them, so that every other may raise them."""


class UserError(Exception):
    """A mistake in what the user asked for: one line that says what happened, what was expected and how to mend it."""


class NoModel(UserError):
    """There is no model of that name, or it has another shape; the message says which."""
