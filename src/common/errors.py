"""What users are told: the log of this program, and the error that a user can cause and mend."""
import logging

logger = logging.getLogger("ifrqe")


class InputError(ValueError):
    """Bad input: the message names the file or option, the fault and the remedy, on one line."""
