"""The deciding side as a process of its own: it is told through a pipe who and what there is, then what is disclosed.

Told nothing (None), it announces.
"""
import contextlib
import pickle
import sys

import mindspore

from src.common.share import WHOLE
from src.config import load_config
from src.device_adapter import set_device
from src.game.ask_first import DecidingSide


def main():
    arguments, users, items = pickle.load(sys.stdin.buffer)
    config, answer = load_config(arguments), sys.stdout.buffer
    mindspore.set_context(runtime_num_threads=1)  # as in the tests' own process
    side = DecidingSide((users, items), WHOLE, config, set_device(config))
    with contextlib.suppress(EOFError):
        while True:
            if (told := pickle.load(sys.stdin.buffer)) is not None:
                side.hear(*told)
            else:
                pickle.dump(side.announce(), answer)
                answer.flush()


if __name__ == "__main__":
    main()
