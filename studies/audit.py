"""What do the models still tell of what users withhold? The leakage audit, started by scripts/run_audit.sh.

For each strategy at one budget and seed, as AUCs (.5 is chance, 1 is certainty): do withheld items score above untouched
ones, and does a score tell whether an interaction was trained on. Masks and models are kept. How to read the measures:
docs/results.md.
"""
import numpy as np
import pandas as pd

from src.common.plugins import label
from src.common.stage import main
from src.common.terminal import counted
from src.game.strategies import NONE, STRATEGIES
from src.history import History
from src.network import score
from src.stat_utils import generator, sample_distinct_outside

from .grid import Study, averages, grid, names_of, needs_validation, seeds_of
from .masks import masks_of_seed, name_of

OWN = {"audit_strategies": ("str", "none,threshold,ifrqe,ask-first",
                            "strategies, separated by commas, at wv_budget; none and random are always among them")}
RANDOM = "random"
PAIRS = 20_000  # of each kind at most, for membership
_COMPARED = 1 << 22  # interactions with untouched items in memory at a time
MEASURES = {"own": "withheld above untouched: own model", "full": "model of everything", "popularity": "popularity alone",
            "membership": "disclosed above withheld: own model", "membership_full": "model of everything"}
TEXT = """
- Withheld above untouched: share of {negatives} untouched items of a user that score below a withheld item, mean over \
users; by the model that never saw it, by the model of everything, which was trained on it, and by how often others \
disclose an item.
- Disclosed above withheld: pairs of the same users, in equal numbers. What the model of everything gives is what the \
choice of the mask alone gives, since it was trained on both.

Strategies withhold different items, so compare the columns of a row first. Withholding keeps an interaction out of the \
training; it does not hide a taste."""


def audit(config):
    """The audit of the dataset that the settings name; writes audit.csv and audit.md.

    Raises:
        InputError: an unknown strategy, or the dataset, a checkpoint or unwillingness is missing or unfit.
    """
    needs_validation(config)
    names = names_of(config, "audit_strategies", "strategy", STRATEGIES)
    strategies = [NONE, RANDOM, *(name for name in names if name not in (NONE, RANDOM))]
    study, seeds, rows = Study("audit", __name__, config), seeds_of(config), []
    for seed in seeds:
        masks = masks_of_seed(study, seed, strategies)
        decided = masks.decided([(name, config.wv_budget) for name in strategies], "wv_budget")
        models = models_of(masks, decided)
        measured = Measured(masks, models[NONE])
        rows += [{"strategy": label(row.strategy), "seed": seed, "wv_share": row.wv_share,
                  "disclosed_share": row.disclosed_share, **measured(row.disclosed, models[row.strategy])}
                 for row in decided.itertuples()]
    table = pd.DataFrame(rows)
    text = [f"# {config.dataset}: what the models still tell at {100 * config.wv_budget:g}% of the unwillingness", "",
            f"AUC, mean over {counted(len(seeds), 'seed')}: .5 is chance, 1 is certainty.", "",
            averages(table, ["strategy"], {"wv_share": "wv", "disclosed_share": "disclosed", **MEASURES}),
            TEXT.format(negatives=config.num_eval_neg)]
    study.publish(table, "\n".join(text))


def models_of(masks, decided):
    """By strategy the parameters of the base model, trained on what it discloses."""
    disclosed = dict(zip(decided.strategy, decided.disclosed))

    def measure(strategy, seed, mask):
        masks.retraining(masks.dataset.part(disclosed[strategy]), seed)
        return masks.retraining.shown.values()
    cells = [{"strategy": name, "seed": masks.config.seed, "mask": name_of(mask)} for name, mask in disclosed.items()]
    found = grid(masks.study, cells, measure, masks.trainings, "models")
    return found.set_index("strategy").drop(columns=["seed", "mask"]).to_dict("index")


class Measured:
    """What is measured of a mask and of the model of what it discloses.

    Args:
        masks: Masks.
        full: parameters of the model of everything.
    """

    def __init__(self, masks, full):
        self.config, self.dataset, self.full = masks.config, masks.dataset, full
        self.net = masks.retraining.shown  # which is there only if users have enough untouched items
        self.untouched = sample_distinct_outside(self.dataset.all_pairs(), self.config.num_eval_neg,
                                                 generator(self.config.seed, "audit", "untouched"))

    def __call__(self, disclosed, values):
        """By key of MEASURES an AUC, or NaN where there is nothing to measure."""
        if disclosed.all():
            return dict.fromkeys(MEASURES, np.nan)
        return {**self._guessed(disclosed, values), **self._membership(disclosed, values)}

    def _scores(self, values, user, item):
        """(m,) float32 logits of a model, given by its parameters."""
        self.net.set_values(values)
        return score(self.net, item[:, None], self.config.eval_batch_size, user)[:, 0]

    def _guessed(self, disclosed, values):
        dataset, untouched = self.dataset, self.untouched
        user, item = dataset.user[~disclosed], dataset.item[~disclosed]
        everyone = np.repeat(np.arange(dataset.num_users, dtype=np.int32), untouched.shape[1])
        popularity = np.bincount(dataset.item[disclosed], minlength=dataset.num_items).astype(np.float32)
        found = {}
        for name, score_of in (("own", lambda u, i: self._scores(values, u, i)),
                               ("full", lambda u, i: self._scores(self.full, u, i)),
                               ("popularity", lambda u, i: popularity[i])):
            others = score_of(everyone, untouched.ravel()).reshape(untouched.shape)
            found[name] = float(pd.Series(guessable(score_of(user, item), user, others)).groupby(user).mean().mean())
        return found

    def _membership(self, disclosed, values):
        from sklearn.metrics import roc_auc_score
        rng = generator(self.config.seed, "audit", "membership")
        withheld, kept = matched_samples(disclosed, self.dataset.history, PAIRS, rng)
        if not len(withheld):
            return {"membership": np.nan, "membership_full": np.nan}
        rows, labels = np.concatenate([kept, withheld]), np.arange(2 * len(kept)) < len(kept)
        return {name: float(roc_auc_score(labels, self._scores(model, self.dataset.user[rows], self.dataset.item[rows])))
                for name, model in (("membership", values), ("membership_full", self.full))}


def guessable(scores, user, untouched):
    """(n,) share of the items that a user has never touched which score lower than an interaction, ties counting half.

    Args:
        scores: (n,), of interactions of (n,) users.
        untouched: (num_users, m) scores of items that each user has never touched.
    """
    auc = np.empty(len(scores))
    step = max(1, _COMPARED // untouched.shape[1])
    for first in range(0, len(scores), step):
        part = slice(first, first + step)
        others, own = untouched[user[part]], scores[part, None]
        auc[part] = 1 - ((others > own).sum(1) + 0.5 * (others == own).sum(1)) / untouched.shape[1]
    return auc


def matched_samples(disclosed, history, number, rng):
    """Withheld interactions, each with a disclosed one of the same user, so that who has long histories plays no part.

    Args:
        disclosed: (n,) bool, a mask.
        history: History.
        number: at most so many are drawn.

    Returns:
        withheld: (m,) positions, all different; of users with something disclosed.
        kept: (m,) positions, drawn with replacement.
    """
    shown = np.flatnonzero(disclosed)
    of_shown = History(history.user[shown], len(history.length))
    withheld = np.flatnonzero(~disclosed & (of_shown.length[history.user] > 0))
    withheld = np.sort(rng.permutation(withheld)[:number])
    own = history.user[withheld]
    return withheld, shown[of_shown.first[own] + rng.integers(0, of_shown.length[own])]


if __name__ == "__main__":
    main(audit, "run_audit", __doc__, own=OWN)
