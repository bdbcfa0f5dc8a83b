"""What studies share: what they need and write, and training from scratch on parts of a dataset, over and over."""
import logging
from collections import deque

from src.candidates import counting, evaluation_candidates
from src.common.errors import InputError
from src.common.files import atomic_write, write_text
from src.common.plugins import check_labels, is_file
from src.common.terminal import RESULT
from src.network import build, score
from src.training.trainer import Trainer, train_on

logger = logging.getLogger("ifrqe")


def names_of(config, option, kind, known, files=True):
    """The names that an option lists; raises InputError if one is neither `known` nor, with `files`, a file of one's own."""
    text = getattr(config, option)
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in known and not (files and is_file(name)):
            raise InputError(f"--{option} {text}: there is no {kind} {name!r}; name some of "
                             f"{','.join([*known, 'FILE.py'] if files else known)}")
    check_labels(names, option, known)
    return names


def needs_validation(config):
    """Raises InputError where no validation item is left for the influences."""
    if config.holdout < 2:
        raise InputError(f"--holdout {config.holdout}: leaves no validation item for the influences; use 2 here")


def write_tables(output, runs, csv, text, markdown):
    """Writes the `runs` of a study, a DataFrame, to the file `csv`, and what they come to, the `text`, to `markdown`."""
    with atomic_write(output / csv) as temporary:
        runs.to_csv(temporary, index=False)
    write_text(output / markdown, text)


def show(text, output, *names):
    """Logs what a study has found, and in which files under `output` it stands."""
    logger.log(RESULT, "%s", text)
    *first, last = (str(output / name) for name in names)
    logger.info("written to %s and %s", ", ".join(first), last)


class Retraining:
    """Trains NCF on parts of a whole Dataset, all epochs that the settings say; the seed in these draws the candidates."""

    def __init__(self, dataset, config, device):
        self.dataset, self.config, self.device = dataset, config, device
        self.validation, self.test = (evaluation_candidates(dataset, name, config) for name in ("validation", "test"))
        self.counts = counting(self.test)  # see metrics; a file of negatives may hold the test items themselves
        self.shown = build(dataset, config)  # scores all models, so that its graph is compiled once

    def __call__(self, part, seed):
        """Trains on `part` (Dataset); returns a function of (scored users, n) items to their logits, good until the next."""
        config = self.config.replace(seed=seed)
        net = build(self.dataset, config)
        last, = deque(train_on(Trainer(net, part, config, self.device)), maxlen=1)
        self.shown.set_values(last.values)
        return lambda candidates: score(self.shown, candidates, config.eval_batch_size, self.dataset.scored)
