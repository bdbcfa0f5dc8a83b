"""The error that a user can cause and mend."""


class InputError(ValueError):
    """Bad input: the message names the file or option, the fault and the remedy, on one line."""
