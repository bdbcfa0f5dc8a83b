"""What do the models still tell of what users withhold? The leakage audit, started by scripts/run_audit.sh.

For each strategy at one budget and seed, as AUCs (.5 is chance, 1 is certainty): do withheld items score above untouched
ones, and does a score tell whether an interaction was trained on. Popularity: how often others disclose an item. The model
of everything was trained on both sides of a pair: its AUC is what the choice of the mask gives away.
"""
import functools

import numpy as np
import pandas as pd

from src import metrics
from src.common.plugins import label
from src.common.stage import main
from src.game.strategies import NONE, STRATEGIES
from src.history import History
from src.network import score
from src.stat_utils import generator, sample_distinct_outside

from .grid import Study, averages, grid, names_of, needs_validation, seeds_of
from .masks import masks_of_seed, name_of

OWN = {"audit_strategies": ("str", "none,threshold,ifrqe,ask-first",
                            "strategies, separated by commas, at wv_budget; none and random are always among them")}
PAIRS = 20_000  # of each kind at most, for membership
MEASURES = {"own": "withheld above untouched: own model", "popularity": "popularity alone",
            "membership": "disclosed above withheld: own model", "membership_full": "model of everything"}


def audit(config):
    """The audit of the dataset that the settings name; writes audit.csv and .md; InputError for what is missing or unfit."""
    needs_validation(config)
    strategies = list(dict.fromkeys([NONE, "random", *names_of(config, "audit_strategies", "strategy", STRATEGIES)]))
    study, seeds, rows = Study("audit", __name__, config), seeds_of(config), []
    for seed in seeds:
        masks = masks_of_seed(study, seed, strategies)
        decided = masks.decided([(name, config.wv_budget) for name in strategies], "wv_budget")
        models = models_of(masks, decided)
        rows += [{"strategy": label(row.strategy), "seed": seed, "wv_share": row.wv_share,
                  "disclosed_share": row.disclosed_share,
                  **measured(models[row.strategy], models[NONE], masks.dataset, row.disclosed, masks.config)}
                 for row in decided.itertuples()]
    table = pd.DataFrame(rows)
    study.publish(table, averages(table, ["strategy"], {"wv_share": "wv", "disclosed_share": "disclosed", **MEASURES}))


def models_of(masks, decided):
    """By strategy the base model that is trained on what it discloses: a function of (m,) users and items to (m,) logits."""
    disclosed = dict(zip(decided.strategy, decided.disclosed))
    net = masks.retraining.shown

    def measure(strategy, seed, mask):
        masks.retraining(masks.dataset.part(disclosed[strategy]), seed)
        return net.values()

    def scores(values, user, item):
        net.set_values(values)
        return score(net, item[:, None], masks.config.eval_batch_size, user)[:, 0]
    cells = [{"strategy": name, "seed": masks.config.seed, "mask": name_of(mask)} for name, mask in disclosed.items()]
    found = grid(masks.study, cells, measure, masks.trainings, "models").set_index("strategy")
    return {name: functools.partial(scores, values)
            for name, values in found.drop(columns=["seed", "mask"]).to_dict("index").items()}


def measured(own, full, dataset, disclosed, config):
    """By key of MEASURES the AUC of a mask, (n,) bool `disclosed`, or NaN where there is nothing to measure.

    `own` and `full` are models as of models_of, trained on what is disclosed and on everything.
    """
    if disclosed.all():
        return dict.fromkeys(MEASURES, np.nan)
    of_audit = functools.partial(generator, config.seed, "audit")
    untouched = sample_distinct_outside(dataset.all_pairs(), config.num_eval_neg, of_audit("untouched"))
    everyone = np.repeat(np.arange(dataset.num_users, dtype=np.int32), untouched.shape[1])
    popularity = np.bincount(dataset.item[disclosed], minlength=dataset.num_items).astype(np.float32)
    user, item, found = dataset.user[~disclosed], dataset.item[~disclosed], dict.fromkeys(MEASURES, np.nan)
    for name, scores in (("own", own), ("popularity", lambda user, item: popularity[item])):
        others = scores(everyone, untouched.ravel()).reshape(untouched.shape)
        found[name] = guessable(scores(user, item), user, others)
    withheld, kept = matched_samples(disclosed, dataset.history, PAIRS, of_audit("membership"))
    rows = np.column_stack([kept, withheld]).ravel()
    for name, scores in (("membership", own), ("membership_full", full)) if len(withheld) else ():
        found[name] = metrics.auc(scores(dataset.user[rows], dataset.item[rows]).reshape(-1, 2))
    return found


def guessable(scores, user, untouched):
    """Share of untouched items that score below an interaction, ties by half: the mean over users of that of their own.

    Of (n,) scores of interactions of (n,) users, and (num_users, m) scores of what each user has never touched.
    """
    untouched = np.sort(untouched, 1)
    lower = [np.mean([np.searchsorted(untouched[one], own, side) for side in ("left", "right")])
             for one, own in pd.Series(scores).groupby(user)]
    return float(np.mean(lower) / untouched.shape[1])


def matched_samples(disclosed, history, number, rng):
    """Withheld interactions, each with a disclosed one of the same user, so that who has long histories plays no part.

    At most `number` positions of what (n,) bool does not disclose, all different, and as many of what it does, drawn with
    replacement; both (m,).
    """
    shown = np.flatnonzero(disclosed)
    of_shown = History(history.user[shown], len(history.length))
    withheld = np.flatnonzero(~disclosed & (of_shown.length[history.user] > 0))
    withheld = np.sort(rng.permutation(withheld)[:number])
    own = history.user[withheld]
    return withheld, shown[of_shown.first[own] + rng.integers(0, of_shown.length[own])]


if __name__ == "__main__":
    main(audit, "run_audit", __doc__, own=OWN)
