"""What studies share: names that an option lists, and training from scratch on parts of a dataset, over and over."""
from collections import deque

from ..common.errors import InputError
from ..common.plugins import check_labels, is_file
from ..dataset import counting, evaluation_candidates
from ..network import build, score
from ..training.trainer import Trainer, train_on


def names_of(config, option, kind, known, files=True):
    """The names that an option lists; raises InputError if one is neither `known` nor, with `files`, a file of one's own.

    The error calls it a `kind`.
    """
    text = getattr(config, option)
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in known and not (files and is_file(name)):
            raise InputError(f"--{option} {text}: there is no {kind} {name!r}; name some of "
                             f"{','.join([*known, 'FILE.py'] if files else known)}")
    check_labels(names, option, known)
    return names


class Retraining:
    """Trains NCF on parts of a dataset, all epochs that the settings say, and scores the candidates of the whole.

    Args:
        dataset: the whole Dataset.
        config: the training options, eval_batch_size, and seed, which draws the candidates.
        device: name of the device in use.
    """

    def __init__(self, dataset, config, device):
        self.dataset, self.config, self.device = dataset, config, device
        self.validation, self.test = (evaluation_candidates(dataset, name, config) for name in ("validation", "test"))
        self.counts = counting(self.test)  # see metrics; a file of negatives may hold the test items themselves
        self.shown = build(dataset, config)  # scores all models, so that its graph is compiled once

    def __call__(self, part, seed):
        """Trains on `part` (Dataset) with a seed.

        Returns:
            A function of candidates, (num_users, n) items, to their (num_users, n) logits; good until the next call.
        """
        config = self.config.replace(seed=seed)
        net = build(self.dataset, config)
        last, = deque(train_on(Trainer(net, part, config, self.device)), maxlen=1)
        self.shown.set_values(last.values)
        return lambda candidates: score(self.shown, candidates, config.eval_batch_size)
