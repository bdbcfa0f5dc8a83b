"""Running on this machine: data, checkpoints and results already are where the options say."""
import contextlib


@contextlib.contextmanager
def session(config):
    """Nothing to fetch before a stage, nothing to send after it."""
    yield config
