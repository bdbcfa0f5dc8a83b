"""Trains NCF on a dataset, or with --masked on its masked twin; writes the checkpoint and train_*.json.

--withdraw takes interactions back from both models without a training; --allow lets later masks disclose them again.
"""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # where PYTHONSAFEPATH is set, Python does not do it

from src.common.seeds import over_seeds  # noqa: E402
from src.common.variant import asked  # noqa: E402
from src.constants import train_file  # noqa: E402
from src.ranks.start import main  # noqa: E402


def run(config):
    """Trains the model that --masked names, or takes back what the file --withdraw lists, or allows what --allow does."""
    if config.withdraw:
        from src.evaluation.withdraw import withdraw  # not at the top: --help does without MindSpore
        withdraw(asked(config))
    elif config.allow:
        from src.evaluation.request import allow
        allow(config)
    else:
        from src.training.train import train
        train(asked(config))


if __name__ == "__main__":
    main(over_seeds(run, train_file), "run_train", __doc__)
