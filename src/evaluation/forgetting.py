"""How well a model has forgotten: what still tells withdrawn interactions apart, and how near it is to a retrained one.

See docs/maths.md, section 12.
"""
from __future__ import annotations

import numpy as np
from sklearn.metrics import roc_auc_score

from .. import metrics
from ..candidates import counting, evaluation_candidates
from ..config import Config
from ..dataset import Dataset
from ..network import Network, build, score, score_all
from .recommend import have_had, top_items


class Judge:
    """Measures sets of parameters, see Network.values, of one model.

    Args:
        dataset: Dataset, the original with all that was ever disclosed.
        user, item: (p,) positions, the withdrawn pairs.
        config: top_k, eval_batch_size and what candidates depend on.
    """

    def __init__(self, dataset: Dataset, user: np.ndarray, item: np.ndarray, config: Config):
        self.dataset, self.user, self.item, self.config = dataset, user, item, config
        self.users = np.unique(user)
        self.net: Network = build(dataset, config)

    def membership_auc(self, values: dict) -> float:
        """Mean over the users of the AUC of their withdrawn items' scores against those of all items they never touched.

        What is left of a membership: of a model that never saw the pairs it is the target, not .5, since people touch
        what is easily recommended to them.
        """
        self.net.set_values(values)
        found = []
        for part, scores in score_all(self.net, self.users, self.dataset.num_items, self.config.eval_batch_size):
            for u, row, taken in zip(part, scores, have_had(part, self.dataset)):
                mine = self.item[self.user == u]
                rest = np.flatnonzero(~taken)
                found.append(roc_auc_score(np.r_[np.ones(len(mine)), np.zeros(len(rest))], np.r_[row[mine], row[rest]]))
        return float(np.mean(found))

    def lists(self, values: dict) -> list[np.ndarray]:
        """The top_k items of the users who withdraw, see top_items."""
        self.net.set_values(values)
        found = top_items(self.net, self.users, self.dataset, self.config.top_k, self.config.eval_batch_size)
        return [items for items, _ in found]

    def hit_ratio(self, values: dict) -> float:
        """HR@top_k of the test items of all users."""
        self.net.set_values(values)
        candidates = evaluation_candidates(self.dataset, "test", self.config)
        scores = score(self.net, candidates, self.config.eval_batch_size, self.dataset.scored)
        rank = metrics.ranks(scores, counting(candidates))
        return metrics.hit_ratio_of_ranks(rank, self.config.top_k)

    def compared(self, original: dict, withdrawn: dict, retrained: dict, other: dict) -> dict:
        """The comparison with a retraining, and with one of another seed.

        Returns:
            Dict of `hr` and `hr_gap` (withdrawn minus retrained), `overlap` of the lists of the users who withdraw with
            those after retraining, `overlap_relative` to what two seeds have in common, and `membership_auc`.
        """
        sets = {"original": original, "withdrawn": withdrawn, "retrained": retrained}
        ratios = {name: self.hit_ratio(values) for name, values in sets.items()}
        lists = {name: self.lists(values) for name, values in {**sets, "seeds": other}.items()}
        common = {name: overlap(lists[name], lists["retrained"]) for name in ("original", "withdrawn", "seeds")}
        return {"hr": ratios, "hr_gap": ratios["withdrawn"] - ratios["retrained"], "overlap": common,
                "overlap_relative": common["withdrawn"] / common["seeds"] if common["seeds"] else None,
                "membership_auc": {name: self.membership_auc(values) for name, values in sets.items()}}


def overlap(one: list[np.ndarray], other: list[np.ndarray]) -> float:
    """Mean share of items that two lists of each user have in common; NaN of nobody."""
    return float(np.mean([len(np.intersect1d(a, b)) / max(len(a), 1) for a, b in zip(one, other)])) if one else float("nan")
