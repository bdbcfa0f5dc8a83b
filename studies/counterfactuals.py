"""Does an item leave a user's list without the interactions that `eval.py --why` names? Started by scripts/run_why.sh.

The protocol of ACCENT (Tran, Ghazimatin and Saha Roy, SIGIR 2021). Of each user one item of their list is asked about, at a
random place. The model is then really retrained without the sets of many users at once, which are disjoint, and without as
many of the user's interactions that are most similar to the item, the baseline. A retraining draws what the first training
drew but for what is withheld, so that little else moves; who is in another group meanwhile tells how much. See
docs/results.md.
"""
import logging
import shutil
from collections import deque
from pathlib import Path

import numpy as np

from src.common.errors import InputError
from src.common.files import write_json
from src.common.stage import Stage, kept, main
from src.common.terminal import RESULT, progress
from src.common.variant import dataset_files
from src.common.wording import counted, markdown_table
from src.dataset import load_dataset
from src.device_adapter import set_device
from src.evaluation.recommend import have_had
from src.influence.without import MARGIN, MOST, Without, fewest, margin_of
from src.network import build, score_all
from src.options import TRAINED
from src.stat_utils import generator
from src.training.trainer import Trainer, train_on

logger = logging.getLogger("ifrqe")

FILE, FOLDER = "why.json", "why"  # under output_path: the result, and what is kept of each seed until there is one
SEEDS = 5  # if --seeds names none
GROUPS = 2  # of users, whose sets are withheld together
FRESH = 10_000  # added to the seed of a retraining that draws anew
METHODS = ("influence", "similar", "similar_own")  # of choosing what to withhold, see Seed.sets
COLUMNS = ("place", "clear", "clear_own", "fresh", "entered", "influence_anew", "similar_anew",
           *(f"{name}_{what}" for name in METHODS for what in ("size", "left", "meanwhile")))  # see Seed.measured


def counterfactuals(config):
    """The study on the dataset that the settings name; writes why.json.

    Raises:
        InputError: the dataset is missing or unfit, or retraining the model on a part of it moves what is not trained.
    """
    dataset, output = load_dataset(config), Path(config.output_path)
    if build(dataset, config).propagation(dataset) is not None:
        raise InputError(f"--model {config.model}: what is withheld changes the graph too, which a refit leaves as it is; "
                         "give --model ncf or mf")
    device, seeds = set_device(config), config.seeds or [config.seed + k for k in range(SEEDS)]
    stage = Stage("why", __name__, config, ("split", "model", *TRAINED, "chunks", "repetition"), dataset_files(config),
                  [output / FILE], device, {"rows": dataset.rows_sha256()})
    if stage.is_done():
        return
    found = []
    with progress(len(seeds) * (2 + (len(METHODS) + 2) * GROUPS), "why", "training") as bar:
        for seed in seeds:
            of_seed = config.replace(seed=seed)
            values = kept(output / FOLDER / f"{seed}.npz", stage.depends, lambda of_seed=of_seed: {
                "measured": Seed(dataset, of_seed, device, bar).measured()}, config.overwrite)["measured"]
            found.append(dict(zip(COLUMNS, values)))
            logger.info("%s", table(f"seed {seed}", summary([found[-1]])))
    report = {"dataset": config.dataset, "model": config.plain_model, "num_users": dataset.num_users, "seeds": seeds,
              "top_k": config.top_k, "most": MOST, "margin": MARGIN, "groups": GROUPS, **summary(found),
              "by_place": {str(place + 1): summary([{key: value[one["place"] == place] for key, value in one.items()}
                                                    for one in found]) for place in range(config.top_k)},
              "by_seed": {str(seed): summary([one]) for seed, one in zip(seeds, found)}}
    write_json(output / FILE, report)
    stage.finish()
    shutil.rmtree(output / FOLDER)
    logger.log(RESULT, "%s", table(f"{config.dataset}, {counted(len(seeds), 'seed')}", report))


class SameDraws(Trainer):
    """A Trainer on a part of a dataset that draws what one on all of it does: in place of a withheld positive another one.

    Negatives are drawn again only where an item is a positive that is `kept`, (n,) bool.
    """

    def __init__(self, net, dataset, kept, config, device):
        super().__init__(net, dataset, config, device)
        self.pairs = dataset.part(kept).history_pairs()

    def samples(self, number):
        users, items = super().samples(number)
        kept = self.pairs.contains(users, items[:, 0])
        place = np.arange(len(kept))
        place[~kept] = np.resize(place[kept], (~kept).sum())  # those at the epoch's beginning, as where a step is filled up
        return users[place], items[place]


class Seed:
    """What one model recommends, why, and what retrainings make of it; each training moves on the progress bar."""

    def __init__(self, dataset, config, device, bar):
        self.dataset, self.config, self.device, self.bar = dataset, config, device, bar
        self.everyone, self.everything = np.arange(dataset.num_users), np.ones(dataset.num_interactions, bool)
        self.shown = build(dataset, config)  # scores all models, so that its graph is compiled once
        self.unseen = ~have_had(self.everyone, dataset)

    def trained(self, kept, config):
        """(num_users, num_items) logits of a model trained on some of the interactions."""
        last, = deque(train_on(SameDraws(build(self.dataset, config), self.dataset, kept, config, self.device)), maxlen=1)
        self.shown.set_values(last.values)
        self.bar.update()
        return np.concatenate([found for _, found in score_all(self.shown, self.everyone, self.dataset.num_items,
                                                               config.eval_batch_size)])

    def lists(self, logits):
        """(num_users, top_k) items that are recommended, best first; -1 where there are no more."""
        logits = np.where(self.unseen, logits, -np.inf)
        order = np.argsort(-logits, 1, kind="stable")[:, :self.config.top_k]
        return np.where(np.isfinite(np.take_along_axis(logits, order, 1)), order, -1)

    def measured(self):
        """(columns, num_users) float64, see COLUMNS.

        place: in the list, from 0, of the item that is asked about; clear, clear_own: whether the set by influence, or the
        baseline's own, has a clear margin; NAME_size: how many interactions a method withholds, 0 where no set is found;
        NAME_left, NAME_meanwhile: whether the item left the list when these were withheld, and when those of another group
        were; fresh: whether it left when nothing was withheld, but all drawn anew; NAME_anew: when the set was withheld and
        all drawn anew; entered: whether what the refit has in its place is in the list of the retrained model.
        """
        config, seed, users = self.config, self.config.seed, self.everyone
        before = self.trained(self.everything, config)
        lists = self.lists(before)
        place = generator(seed, "item asked about").integers(0, np.maximum((lists >= 0).sum(1), 1))
        items = lists[users, place]
        found, sets, clear_own = self.sets(items)
        group = generator(seed, "groups").permutation(len(users)) % GROUPS
        anew = config.replace(seed=seed + FRESH)
        fresh = self.lists(self.trained(self.everything, anew))
        columns = {"place": place, "clear": [one is not None and one.clear for one in found], "clear_own": clear_own,
                   "fresh": gone(items, fresh)}
        for name, chosen in sets.items():
            after, meanwhile = self.retrained(chosen, group, config)
            columns |= {f"{name}_size": [0 if one is None else len(one) for one in chosen],
                        f"{name}_left": gone(items, after), f"{name}_meanwhile": gone(items, meanwhile)}
            if f"{name}_anew" in COLUMNS:
                columns[f"{name}_anew"] = gone(items, self.retrained(chosen, group, anew)[0])
            if name == "influence":
                refitted = self.lists(np.stack([row if one is None else one.logits for row, one in zip(before, found)]))
                new = np.array([next((item for item in row if item not in had), -1) for row, had in zip(refitted, lists)])
                columns["entered"] = ~gone(new, after)
        return np.stack([columns[name] for name in COLUMNS]).astype(np.float64)

    def sets(self, items):
        """What each method withholds of each user.

        Args:
            items: (num_users,) that are asked about.

        Returns:
            found: for each user the Counterfactual, or None.
            sets: dict of METHODS to lists of the positions that are withheld of each user, or None: "influence" those of
                `found`, "similar" as many of the most similar to the item, "similar_own" as many of these as it takes, by
                refits, until the item leaves; each with None where nothing is found.
            clear: (num_users,) bool, whether the last have a clear margin.
        """
        without = Without(self.shown, self.dataset, self.config)
        found = fewest(without, self.everyone, items, self.unseen, self.config.top_k)
        embedding = self.shown.item_embeddings(self.shown.values())
        orders = []
        for user, item in zip(self.everyone, items):
            history = without.history(user)
            orders.append(history[np.argsort(-embedding[self.dataset.item[history]] @ embedding[item], kind="stable")])
        asked = [(user, order[:size]) for user, order in enumerate(orders) for size in range(1, min(MOST, len(order)) + 1)]
        logits = without.logits(np.array([user for user, _ in asked], int), [positions for _, positions in asked])
        own, clear = [None] * len(items), np.zeros(len(items), bool)
        for (user, positions), row in zip(asked, logits):
            margin = margin_of(row, items[user], self.unseen[user], self.config.top_k)
            if margin > 0 and own[user] is None or margin >= MARGIN and not clear[user]:
                own[user], clear[user] = positions, margin >= MARGIN
        return found, {"influence": [one and one.withheld for one in found],
                       "similar": [one and order[:len(one.withheld)] for one, order in zip(found, orders)],
                       "similar_own": own}, clear

    def retrained(self, sets, group, config):
        """(num_users, top_k) lists after retraining without the sets of their own group, and without those of another."""
        own, other = np.zeros((2, len(sets), self.config.top_k), int)
        for number in range(GROUPS):
            kept = self.everything.copy()
            for user in np.flatnonzero(group == number):
                if sets[user] is not None:
                    kept[sets[user]] = False
            after = self.lists(self.trained(kept, config))
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


def summary(found):
    """A dict of what seeds have come to, each a dict by COLUMNS: of sets with a clear margin, and of all that were found."""
    one = {key: np.concatenate([seed[key] for seed in found]) for key in COLUMNS}
    known, clear = one["influence_size"] > 0, one["clear"] > 0
    own_known, own_clear = one["similar_own_size"] > 0, one["clear_own"] > 0
    return {"asked": len(known), "clear": _true(one, clear, own_clear), "all": _true(one, known, own_known)}


def _true(one, chosen, own):
    """The shares of a summary, over the users `chosen`, and of the baseline by its own rule over `own`."""
    def share(key, of=chosen):
        return float(one[key][of].mean()) if of.any() else None
    ours, similar = (one[f"{name}_left"][chosen] > 0 for name in METHODS[:2])
    anew = [one[f"{name}_anew"][chosen] > 0 for name in METHODS[:2]]
    return {"found": int(chosen.sum()), "size": share("influence_size"), "influence": share("influence_left"),
            "similar": share("similar_left"), "only_influence": int((ours & ~similar).sum()),
            "only_similar": int((similar & ~ours).sum()), "p": mcnemar(ours, similar),
            "meanwhile": share("influence_meanwhile"), "entered": share("entered"), "fresh": share("fresh"),
            "influence_anew": share("influence_anew"), "similar_anew": share("similar_anew"), "p_anew": mcnemar(*anew),
            "own_found": int(own.sum()), "own_size": share("similar_own_size", own), "own": share("similar_own_left", own)}


def table(title, result):
    """A summary as text."""
    rows = []
    for name, text in (("clear", "clear"), ("all", "clear or close")):
        row = {key: "" if value is None else f"{value:.3g}" if key.startswith("p") else f"{value:.3f}"
               for key, value in result[name].items()}
        for method, number, size, true, anew in (("influence", "found", "size", "influence", "influence_anew"),
                                                 ("similar, as many", "found", "size", "similar", "similar_anew"),
                                                 ("similar, by its own rule", "own_found", "own_size", "own", ""),
                                                 ("nothing, others withhold", "found", "", "meanwhile", "fresh")):
            rows.append((text, method, f"{result[name][number]} of {result['asked']}", row.get(size, ""), row[true],
                         row.get(anew, "")))
        rows.append((text, "McNemar's p, influence against as many", "", "", row["p"], row["p_anew"]))
    return f"{title}: does the item leave?\n" + markdown_table(
        ("sets", "withheld", "found", "size", "leaves, same draws", "leaves, drawn anew"), rows)


if __name__ == "__main__":
    main(counterfactuals, "run_why", __doc__)
