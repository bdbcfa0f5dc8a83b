"""Does an item leave a user's list without the interactions that `eval.py --why` names? Started by scripts/run_why.sh.

The protocol of ACCENT (Tran, Ghazimatin and Saha Roy, SIGIR 2021). Of each user one item of their list is asked about, at a
random place. Where a set with a clear margin is found, the model is really retrained without the sets of many users at once,
which are disjoint, and without as many of the user's interactions that are most similar to the item, the baseline. A
retraining draws what the first training drew but for what is withheld, so that little else moves, or all anew; who is in
another group meanwhile tells how much. How far refits predict the retrained logits is said beside. See docs/results.md.
"""
from collections import deque

import numpy as np

from src.common.errors import InputError
from src.common.stage import main
from src.common.terminal import counted
from src.common.variant import dataset_files
from src.dataset import load_dataset
from src.evaluation.recommend import have_had
from src.influence.rows import Rows
from src.influence.without import MARGIN, MOST, fewest
from src.network import build, score_all
from src.options import TRAINED
from src.stat_utils import generator
from src.training.trainer import Trainer, train_on

from .grid import Study, grid, markdown_table, seeds_of

GROUPS = 2  # of users, whose sets are withheld together
FRESH = 10_000  # added to the seed of a retraining that draws anew


class Untilted(Rows):
    """Refits without the term that makes the trained row the optimum of what it was trained on."""

    def _slopes(self, users):
        return np.zeros((len(users), self.trained.shape[1]))


REFITS = {"refit": Rows, "untilted refit": Untilted}  # how far they predict retrained logits is compared


def why(config):
    """The study on the dataset that the settings name; writes why.json and why.md.

    Raises:
        InputError: the dataset is missing or unfit, or retraining the model on a part of it moves what is not trained.
    """
    dataset = load_dataset(config)
    if build(dataset, config).propagation(dataset) is not None:
        raise InputError(f"--model {config.model}: what is withheld changes the graph too, which a refit leaves as it is; "
                         "give --model ncf or mf")
    study, seeds = Study("why", __name__, config), seeds_of(config, 5)
    depends = study.depends(("split", "model", *TRAINED, "chunks"), dataset_files(config), rows=dataset.rows_sha256())
    found = grid(study, [{"seed": seed} for seed in seeds],
                 lambda seed: Seed(dataset, config.replace(seed=seed), study.device).measured(), depends)
    result = summary({name: np.concatenate(found[name].tolist()) for name in found if name != "seed"})
    study.publish({"dataset": config.dataset, "model": config.plain_model, "num_users": dataset.num_users, "seeds": seeds,
                   "top_k": config.top_k, "most": MOST, "margin": MARGIN, "groups": GROUPS, **result},
                  table(f"{config.dataset}, {counted(len(seeds), 'seed')}", result))


class SameDraws(Trainer):
    """A Trainer on a part of a dataset that draws what one on all of it does: in place of a withheld positive another one.

    Negatives are drawn again only where an item is a positive that is `kept`, (n,) bool.
    """

    def __init__(self, net, dataset, kept, config, device):
        super().__init__(net, dataset, config, device)
        self.pairs = dataset.part(kept).history_pairs()

    def samples(self, number, part=0):
        users, items = super().samples(number, part)
        kept = self.pairs.contains(users, items[:, 0])
        place = np.arange(len(kept))
        place[~kept] = np.resize(place[kept], (~kept).sum())  # those at the beginning, as where a step is filled up
        return users[place], items[place]


class Seed:
    """What one model recommends, why, and what retrainings make of it."""

    def __init__(self, dataset, config, device):
        self.dataset, self.config, self.device = dataset, config, device
        self.everyone, self.everything = np.arange(dataset.num_users), np.ones(dataset.num_interactions, bool)
        self.shown = build(dataset, config)  # scores all models, so that its graph is compiled once
        self.unseen = ~have_had(self.everyone, dataset)

    def trained(self, kept, config):
        """(num_users, num_items) logits of a model trained on some of the interactions."""
        last, = deque(train_on(SameDraws(build(self.dataset, config), self.dataset, kept, config, self.device)), maxlen=1)
        self.shown.set_values(last.values)
        return np.concatenate([found for _, found in score_all(self.shown, self.everyone, self.dataset.num_items,
                                                               config.eval_batch_size)])

    def lists(self, logits):
        """(num_users, top_k) items that are recommended, best first; -1 where there are no more."""
        logits = np.where(self.unseen, logits, -np.inf)
        order = np.argsort(-logits, 1, kind="stable")[:, :self.config.top_k]
        return np.where(np.isfinite(np.take_along_axis(logits, order, 1)), order, -1)

    def measured(self):
        """By name (num_users,) float64.

        size: of the set that is withheld, 0 where none has a clear margin; NAME, NAME_meanwhile, NAME_anew: whether the item
        left the list when the method's set was withheld, when those of another group were, and when all was drawn anew too;
        fresh: whether it left when nothing was withheld, but all drawn anew; moved, and by each of REFITS: by how much the
        item's logit, less the mean of all items, changed in the retraining without the set, and in a refit without it.
        """
        config, users = self.config, self.everyone
        before = self.trained(self.everything, config)
        lists = self.lists(before)
        place = generator(config.seed, "item asked about").integers(0, np.maximum((lists >= 0).sum(1), 1))
        items = lists[users, place]
        sets, refitted = self.sets(items)
        group = generator(config.seed, "groups").permutation(len(users)) % GROUPS
        anew = config.replace(seed=config.seed + FRESH)
        columns = {"size": [len(one) for one in sets["influence"]],
                   "fresh": gone(items, self.lists(self.trained(self.everything, anew)))}

        def above(logits):
            return logits[users, items].astype(np.float64) - logits.mean(1, dtype=np.float64)
        for name, chosen in sets.items():
            after, meanwhile = self.retrained(chosen, group, config)
            columns |= {name: gone(items, self.lists(after)), f"{name}_meanwhile": gone(items, self.lists(meanwhile)),
                        f"{name}_anew": gone(items, self.lists(self.retrained(chosen, group, anew)[0]))}
            if name == "influence":
                columns |= {"moved": above(after) - above(before),
                            **{refit: above(logits) - above(before) for refit, logits in refitted.items()}}
        return {name: np.asarray(values, np.float64) for name, values in columns.items()}

    def sets(self, items):
        """What is withheld of each user, as positions by method, and by each of REFITS the logits without it.

        "influence": the clear set that is found for `items`, (num_users,), empty where there is none; "similar": as many of
        the interactions most similar to the item.
        """
        refits = {name: refit(self.shown, self.dataset, self.config) for name, refit in REFITS.items()}
        found = fewest(next(iter(refits.values())), self.everyone, items, self.unseen, self.config.top_k)
        ours = [one.withheld if one and one.clear else np.zeros(0, int) for one in found]
        embedding = self.shown.item_embeddings(self.shown.values())
        similar = []
        for user, item in zip(self.everyone, items):
            rows = self.dataset.history.of(user)
            order = np.argsort(-embedding[self.dataset.item[rows]] @ embedding[item], kind="stable")
            similar.append(rows.start + order[:len(ours[user])])
        return {"influence": ours, "similar": similar}, {
            name: refit.without(self.everyone, ours) for name, refit in refits.items()}

    def retrained(self, sets, group, config):
        """(num_users, num_items) logits after retraining without the sets of their own group, and without another's."""
        own, other = np.zeros((2, *self.unseen.shape), np.float32)
        for number in range(GROUPS):
            kept = self.everything.copy()
            for user in np.flatnonzero(group == number):
                kept[sets[user]] = False
            after = self.trained(kept, config)
            own[group == number] = after[group == number]
            other[group == (number + 1) % GROUPS] = after[group == (number + 1) % GROUPS]
        return own, other


def gone(items, lists):
    """(u,) bool: whether (u,) items are not in (u, k) lists."""
    return (lists != items[:, None]).all(1)


def mcnemar(one, other):
    """Two-sided p-value of McNemar's exact test that (n,) bool `one` and `other` are as often true."""
    from scipy.stats import binomtest  # takes a second to import
    only, less = int((one & ~other).sum()), int((other & ~one).sum())
    return float(binomtest(only, only + less).pvalue) if only + less else 1.0


def summary(measured):
    """What all seeds come to, from the columns of Seed.measured: means over the users for whom a clear set is found."""
    found = {name: values[measured["size"] > 0] for name, values in measured.items()}
    number = len(found["size"])
    result = {name: float(found[name].mean()) if number else None
              for name in ("size", "influence", "similar", "influence_meanwhile", "influence_anew", "similar_anew", "fresh")}
    return {"asked": len(measured["size"]), "found": number, **result,
            **{f"p{kind}": mcnemar(found[f"influence{kind}"] > 0, found[f"similar{kind}"] > 0) for kind in ("", "_anew")},
            "correlation": {name: float(np.corrcoef(found[name], found["moved"])[0, 1]) if number > 2 else None
                            for name in REFITS}}


def table(title, result):
    """A summary as Markdown."""
    def shown(name):
        return "" if result[name] is None else f"{100 * result[name]:.1f}%"
    rows = [("what --why names", shown("influence"), shown("influence_anew")),
            ("as many, the most similar to the item", shown("similar"), shown("similar_anew")),
            ("nothing of the user's own", shown("influence_meanwhile"), shown("fresh")),
            ("p of the first two (McNemar)", *(f"{result[name]:.1g}" for name in ("p", "p_anew")))]
    size = "" if result["size"] is None else f", of {result['size']:.1f} interactions on average"
    lines = [f"{title}: a clear set is found for {result['found']} of {result['asked']} items{size}.", "",
             markdown_table(("withheld", "leaves, same random draws", "leaves, all drawn anew"), rows), ""]
    return "\n".join(lines + [f"Change of the item's logit by {name} and by retraining: correlation {value:.2f}."
                              for name, value in result["correlation"].items() if value is not None])


if __name__ == "__main__":
    main(why, "run_why", __doc__)
