"""Is forgetting by withdrawing as good as training anew, or in shards? Started by scripts/run_withdrawal.sh.

Users leave: the most active, the least active, some at random; and single interactions are taken back in a row. Each is
carried out on models of several seeds: by withdrawing, by a training without, and by SISA, which deals users to shards with
a model each, and trains those anew that a request touches. Lists are ranked among all items that users have not touched.
What was trained and withdrawn is kept, so that a stopped study goes on. See docs/results.md.
"""
import time

import numpy as np
import pandas as pd

from src.common.columns import finder
from src.common.errors import InputError
from src.common.stage import main
from src.common.tables import read_table
from src.common.variant import asked, dataset_files
from src.constants import ITEM, USER
from src.dataset import load_dataset, without_test_items
from src.evaluation.recommend import top_items
from src.evaluation.withdraw import membership_auc
from src.influence.withdrawal import Withdrawal
from src.network import build
from src.options import TRAINED
from src.stat_utils import generator
from src.training.train import train_in_memory

from .grid import Study, averages, grid, seeds_of
from .masks import name_of

OWN = {"withdrawal_test": ("str", "", "CSV of test rows (user, item), with which nothing is held out; without it the "
                                      "held-out test items are the test rows")}
SHARDS, PERCENT, IN_A_ROW = 10, (5, 10, 20), (100, 300, 1000)
EVERYTHING, METHODS = "nothing", ("before", "retrain", "withdraw", "sisa")
BEFORE, RETRAIN, WITHDRAW, SISA = METHODS


def withdrawal(config):
    """The study on the data of the model that --masked names; writes withdrawal.csv and .md; InputError for unfit files."""
    config = config.replace(holdout=0) if config.withdrawal_test else config
    study, dataset, whole = begun("withdrawal", __name__, config)
    wanted, rng, seeds = test_rows(config, whole), generator(config.seed, "withdrawal study"), seeds_of(config)
    requests, shard = requests_of(dataset, rng), rng.permutation(dataset.num_users) % SHARDS
    gone = {name: np.isin(np.arange(dataset.num_interactions), parts) for name, parts in requests.items()}
    others = {(name, k): mask | (shard != k)[dataset.user] for name, mask in gone.items() for k in range(SHARDS)}
    models, judge = trained(study, dataset, {**gone, **others}, seeds), Judge(whole, study.config, wanted, shard)

    def withdraw(one, name):
        values = models[EVERYTHING, one.seed][0]
        return carried_out(values, requests[name], dataset, one, 1 + one.anchor_epochs)
    left = models_of(study, dataset, gone, seeds, withdraw)
    table = pd.DataFrame([row for name, parts in requests.items() for row in judge(
        name, dataset, gone[name], {seed: methods_of(name, models, left, seed, len(parts)) for seed in seeds})])
    study.publish(table.round(6), averages(table, ["request", "method"], {name: name for name in table.columns[6:]}))


def begun(name, module, config):
    """A Study, the data of the model that --masked names, and all data; InputError where nothing can be withdrawn."""
    variant = asked(config)
    dataset, whole = load_dataset(variant.settings(), variant.masked), load_dataset(config)
    if build(dataset, config).propagation(dataset) is not None:
        raise InputError(f"--model {config.model}: nothing can be withdrawn from it; see train.py --withdraw")
    return Study(name, module, variant.settings()), dataset, whole


def test_rows(config, dataset):
    """By user the items that their list is to hold; -1 for those that the dataset lacks, which no list holds."""
    user, item, path = dataset.scored, dataset.test[dataset.scored], config.withdrawal_test
    if path:
        table = read_table(path, [USER, ITEM], [USER, ITEM], extra="quiet").drop_duplicates()
        user, item = finder(dataset.user_ids)(table[USER]), finder(dataset.item_ids)(table[ITEM])
        if not ((user >= 0) & (item >= 0)).any():
            raise InputError(f"--withdrawal_test {path}: has no row of {dataset.name}; name rows by the ids of the data")
    return {one: item[user == one] for one in np.unique(user[user >= 0]).tolist()}


def requests_of(dataset, rng):
    """By name of each request that is possible its parts, one after the other: (r, 1) or (1, r) positions of interactions.

    Users of the same activity come in random order. The last interaction of users stays where single ones are taken back.
    """
    single, users = (rng.permutation(np.flatnonzero(some)) for some in (dataset.history.from_end, dataset.history.length))
    rising = users[np.argsort(dataset.history.length[users], kind="stable")]
    orders = {"most active": rising[::-1], "least active": rising, "at random": users}
    found = {f"{percent}% {kind}": np.flatnonzero(np.isin(dataset.user, order[:len(users) * percent // 100]))[None]
             for kind, order in orders.items() for percent in PERCENT}
    found.update({f"{number} in a row": single[:number, None] for number in IN_A_ROW if number <= len(single)})
    found = {EVERYTHING: np.zeros((0, 1), int), **{name: parts for name, parts in found.items() if parts.size}}
    if len(found) == 1:
        raise InputError(f"dataset {dataset.name}: has too few users and interactions to take any back; give the study more")
    return found


def trained(study, dataset, jobs, seeds):
    """See models_of: trained without what is gone; where that is everything, they stay as they are drawn."""
    def train(config, name):
        part = dataset.part(~jobs[name])
        return train_in_memory(config, part, study.device)[0] if part.num_interactions else build(part, config).values()
    return models_of(study, dataset, jobs, seeds, train)


def models_of(study, dataset, jobs, seeds, make):
    """By name of `jobs`, (n,) bool of what is gone, and seed the parameters that `make` returns of the settings and a name,
    and the seconds that it took. Equal jobs are done once, and come to the same object.
    """
    config, digests = study.config, {name: name_of(gone) for name, gone in jobs.items()}
    names = {digest: name for name, digest in digests.items()}

    def measure(seed, gone):
        start = time.perf_counter()
        values = make(config.replace(seed=seed), names[gone])
        return {"seconds": time.perf_counter() - start, **values}
    depends = study.depends(("split", "model", *TRAINED), dataset_files(config, config.masked), rows=dataset.rows_sha256())
    rows = grid(study, [{"seed": seed, "gone": gone} for seed in seeds for gone in names], measure, depends, make.__name__)
    found = {(row.pop("gone"), row.pop("seed")): (row, row.pop("seconds")) for row in rows.to_dict("records")}
    return {(name, seed): found[digest, seed] for name, digest in digests.items() for seed in seeds}


def carried_out(values, parts, dataset, config, sets=1):
    """The parameters after requests in a row, positions each, taken out of so many sets of them, as a checkpoint holds."""
    left = np.ones(dataset.num_interactions, bool)
    for part in parts:
        carried, now = Withdrawal(build(dataset, config), dataset.part(left), config), left.copy()
        now[part] = False
        values, left = carried({str(k): values for k in range(sets)}, ~now[left])["0"], now
    return values


def methods_of(name, models, left, seed, parts):
    """By method its models after a request, one or one a shard, the seconds of a part, and the shards that are trained."""
    before, after = ([models[(request, k), seed] for k in range(SHARDS)] for request in (EVERYTHING, name))
    seconds = [new[1] for new, old in zip(after, before) if name == EVERYTHING or new is not old]
    shards, anew, withdrawn = len(seconds) if parts <= 1 else 1, models[name, seed], left[name, seed]
    found = {BEFORE: ([models[EVERYTHING, seed]], np.nan, 0), WITHDRAW: ([withdrawn], withdrawn[1] / max(1, parts), 0),
             RETRAIN: ([anew], anew[1], 0), SISA: (after, shards * np.mean(seconds), shards)}
    return {method: found[method] for method in (METHODS if name != EVERYTHING else (RETRAIN, SISA))}


class Lists:
    """Users' lists of top_k items by any parameters, of what they have not touched."""

    def __init__(self, whole, config):
        self.whole, self.config, self.net = whole, config, build(whole, config)

    def __call__(self, values, users):
        """For each of some users the positions of their items."""
        self.net.set_values(values)
        found = top_items(self.net, users, self.whole, self.config.top_k, self.config.eval_batch_size)
        return [items for items, _ in found]


class Judge:
    """What models come to, by what users' lists are to hold; (num_users,) `shard` says which of several serves whom."""

    def __init__(self, whole, config, wanted, shard):
        self.whole, self.config, self.wanted, self.shard = whole, config, wanted, shard
        self.lists = Lists(without_test_items(whole), config)

    def __call__(self, name, dataset, gone, methods):
        """A row for each seed and method of a request: quality over the users who have test rows and something left.

        auc: of what is gone. overlap: of lists with the retrained model's, over what those of two seeds have in common.
        """
        users, k = np.intersect1d(dataset.user[~gone], list(self.wanted)), self.config.top_k
        pairs, wanted = (dataset.user[gone], dataset.item[gone]), [self.wanted[user] for user in users.tolist()]
        retrained, seeds = {seed: self.listed(of[RETRAIN][0], users) for seed, of in methods.items()}, list(methods)
        for seed, other in zip(seeds, seeds[1:] + seeds[:1]):
            two = overlap(retrained[seed], retrained[other]) if other != seed else np.nan
            for method, (models, seconds, shards) in methods[seed].items():
                lists = self.listed(models, users)
                ndcg, hr = quality(lists, wanted)
                near = overlap(lists, retrained[other if method == RETRAIN else seed])
                auc = [(membership_auc(values, self.whole, *(ids[mine] for ids in pairs), self.config),
                        len(np.unique(pairs[0][mine]))) for values, mine in self.serving(models, pairs[0])]
                yield {"request": name, "method": method, "seed": seed, "users": len(np.unique(pairs[0])),
                       "interactions": gone.sum(), "shards": shards, "seconds": seconds, f"ndcg@{k}": ndcg, f"hr@{k}": hr,
                       "auc": np.dot(*zip(*auc)) / sum(of for _, of in auc) if auc else np.nan,
                       "overlap": near / (two or np.nan)}

    def serving(self, models, users):
        """Of each model that serves some of (u,) users its parameters, and (u,) bool, whom."""
        served = self.shard[users] % len(models)
        return [(models[k][0], served == k) for k in np.unique(served)]

    def listed(self, models, users):
        found = {user: items for values, mine in self.serving(models, users)
                 for user, items in zip(users[mine].tolist(), self.lists(values, users[mine]))}
        return [found[user] for user in users.tolist()]


def quality(lists, wanted):
    """CURE4Rec's NDCG, whose ideal list holds all wanted items of a user, and HR, the share of these in the list: means."""
    hits = [np.isin(items, own) for items, own in zip(lists, wanted)]
    gain = 1 / np.log2(np.arange(2, 2 + max(map(len, [*lists, *wanted]))))
    ndcg = [gain[:len(hit)][hit].sum() / gain[:len(own)].sum() for hit, own in zip(hits, wanted)]
    return np.mean(ndcg), np.mean([hit.sum() / len(own) for hit, own in zip(hits, wanted)])


def overlap(one, other):
    """Mean share of items that two lists of each user have in common."""
    return float(np.mean([len(np.intersect1d(a, b)) / max(len(a), 1) for a, b in zip(one, other)]))


if __name__ == "__main__":
    main(withdrawal, "run_withdrawal", __doc__, own=OWN)
