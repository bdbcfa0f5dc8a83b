"""Computes influences, decides what each user discloses, and writes the masked dataset.

--update FILE decides on new interactions instead and adds them, --newcomers FILE shows what new users should disclose.
"""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # where PYTHONSAFEPATH is set, Python does not do it

from src.common.variant import asked  # noqa: E402
from src.ranks.start import main  # noqa: E402


def run(config):
    """The influence stage, or decisions on what came after it."""
    if config.newcomers:
        from src.evaluation.newcomers import newcomers  # not at the top: --help does without MindSpore
        newcomers(asked(config))
    elif config.update:
        from src.game.update import update
        update(config)
    else:
        from src.game.preprocess import preprocess
        preprocess(config)


if __name__ == "__main__":
    main(run, "run_preprocess", __doc__)
