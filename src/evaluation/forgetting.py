"""What still tells withdrawn interactions apart. See docs/maths.md, section 12."""
from __future__ import annotations

import numpy as np
from sklearn.metrics import roc_auc_score

from ..config import Config
from ..dataset import Dataset
from ..network import build, score_all
from .recommend import have_had


def membership_auc(values: dict, dataset: Dataset, user: np.ndarray, item: np.ndarray, config: Config) -> float:
    """Mean over the users of the AUC of their withdrawn items' scores against those of all items they never touched.

    What is left of a membership: of a model that never saw the pairs it is the target, not .5, since people touch what is
    easily recommended to them. `values`: see Network.values; `dataset`: with all that was ever disclosed; `user`, `item`:
    (p,) positions, the withdrawn pairs.
    """
    net, found = build(dataset, config), []
    net.set_values(values)
    for part, scores in score_all(net, np.unique(user), dataset.num_items, config.eval_batch_size):
        for u, row, taken in zip(part, scores, have_had(part, dataset)):
            mine, rest = item[user == u], np.flatnonzero(~taken)
            found.append(roc_auc_score(np.r_[np.ones(len(mine)), np.zeros(len(rest))], np.r_[row[mine], row[rest]]))
    return float(np.mean(found))
