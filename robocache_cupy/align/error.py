"""What a user is told."""


class CommandError(Exception):
    """What a user asked for and cannot have, in one line."""
