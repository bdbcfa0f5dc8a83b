"""Is withdrawing as good as training anew, and does the button work? Started by scripts/run_withdrawal.sh.

Requests of several kinds are carried out on the models of several seeds, and beside each a model is trained without what was
withdrawn. The same for users who hide a genre, or a film: how many of the alike items leave their lists, against users who
hide nothing. Trained models are kept, so that a stopped study goes on. See docs/results.md.
"""
import time

import numpy as np
import pandas as pd

from src import metrics
from src.candidates import counting, evaluation_candidates
from src.common.errors import InputError
from src.common.figures import BLUE, GREY, ORANGE, picture
from src.common.stage import main
from src.common.variant import asked, dataset_files
from src.constants import GENRES
from src.dataset import load_dataset
from src.evaluation.recommend import top_items
from src.evaluation.withdraw import membership_auc
from src.influence.withdrawal import Withdrawal
from src.network import build, score
from src.options import TRAINED
from src.sources.catalogue import load_catalogue
from src.stat_utils import generator
from src.training.train import train_in_memory

from .grid import Study, averages, grid, seeds_of
from .masks import name_of

IN_A_ROW, OF_GENRE, HIDING, NEAREST = 100, 100, 500, 20  # most requests; users; users of the button study; alike items
EVERYTHING, SINGLE, USER, ONE_PERCENT, FIVE_PERCENT, GENRE = (
    "nothing", "1 interaction, up to 100 in a row", "one user", "1% of users", "5% of users", "a genre of up to 100 users")
HIDE_GENRE, HIDE_ITEM = "a genre", "one item"


def withdrawal(config):
    """The study on the data of the model that --masked names; writes withdrawal.csv, .md and .png.

    Raises:
        InputError: the dataset is missing or unfit.
    """
    variant = asked(config)
    dataset, whole = load_dataset(variant.settings(), variant.masked), load_dataset(config)
    config = variant.settings()
    study, seeds = Study("withdrawal", __name__, config), seeds_of(config)
    if build(dataset, config).propagation(dataset) is not None:
        raise InputError(f"--model {config.model}: nothing can be withdrawn from it; see train.py --withdraw")
    genres = load_catalogue(whole, config)[GENRES].str.split("|")
    requests = requests_of(dataset, genres, generator(config.seed, "withdrawal study"))
    originals = models_of(study, dataset, {EVERYTHING: np.zeros(dataset.num_interactions, bool)}, seeds)
    lists, rng = Lists(whole, config), generator(config.seed, "hiding users")
    users = rng.permutation(np.unique(dataset.user))
    buttons = {kind: hiding(kind, users, dataset, genres, lists, originals[EVERYTHING, seeds[0]][0], rng)
               for kind in (HIDE_GENRE, HIDE_ITEM)}
    hidden = {kind: gone for kind, (gone, _) in buttons.items() if gone.any()}
    models = {**originals, **models_of(study, dataset, {**requests, **hidden}, seeds)}
    table = pd.DataFrame([row for name, gone in requests.items()
                          for row in compared(name, gone, models, seeds, dataset, lists, config)])
    left = pd.DataFrame([row for kind, gone in hidden.items() for seed in seeds for row in left_of(
        kind, gone, buttons[kind][1], models, dataset, lists, config.replace(seed=seed))])
    study.publish(pd.concat([table, left]), markdown(table, left), plot, table,
                  f"{dataset.name}: what is left of what was withdrawn")


def requests_of(dataset, genres, rng):
    """By kind of request that is possible the (n,) interactions that are withdrawn; the kinds have different users."""
    first, length = dataset.history.first, dataset.history.length
    users = rng.permutation(np.flatnonzero(length > 1))
    if not len(users):
        raise InputError(f"dataset {dataset.name}: nobody has two training interactions, so that one could be withdrawn; "
                         "give the study more data")
    start = min(IN_A_ROW, -(-len(users) // 2))  # half of few users are left for the other requests
    found = {SINGLE: np.zeros(dataset.num_interactions, bool)}
    found[SINGLE][first[users[:start]] + rng.integers(0, length[users[:start]])] = True
    for name, number in ((USER, 1), (ONE_PERCENT, dataset.num_users // 100), (FIVE_PERCENT, dataset.num_users // 20)):
        found[name] = np.isin(dataset.user, users[start:start + number])
        start += number
    named = genres[dataset.item].explode()
    named = named[named != ""]
    if len(named):
        most = named.mode()[0]  # the genre that most interactions have
        of_genre = genres.map(lambda names: most in names).to_numpy()
        found[GENRE] = np.isin(dataset.user, users[start:start + OF_GENRE]) & of_genre[dataset.item]
    return {name: gone for name, gone in found.items() if gone.any()}


def models_of(study, dataset, jobs, seeds):
    """By name of `jobs`, which are (n,) bool, and seed the parameters trained without these, and the seconds it took."""
    config = study.config

    def measure(seed, name, gone):
        start = time.perf_counter()
        values = train_in_memory(config.replace(seed=seed), dataset.part(~jobs[name]), study.device)[0]
        return {"seconds": time.perf_counter() - start, **values}
    cells = [{"seed": seed, "name": name, "gone": name_of(gone)}
             for seed in seeds for name, gone in jobs.items()]
    depends = study.depends(("split", "model", *TRAINED), dataset_files(config, config.masked), rows=dataset.rows_sha256())
    rows = grid(study, cells, measure, depends).drop(columns="gone").to_dict("records")
    return {(row.pop("name"), row.pop("seed")): (row, row.pop("seconds")) for row in rows}


def compared(name, gone, models, seeds, dataset, lists, config):
    """A row for each seed: a request on its model against the training without."""
    whole, pairs = lists.whole, (dataset.user[gone], dataset.item[gone])
    candidates = evaluation_candidates(whole, "test", config)

    def hit_ratio(values):
        lists.net.set_values(values)
        scores = score(lists.net, candidates, config.eval_batch_size, whole.scored)
        return metrics.hit_ratio_of_ranks(metrics.ranks(scores, counting(candidates)), config.top_k)
    for k, seed in enumerate(seeds):
        original, (retrained, seconds) = models[EVERYTHING, seed][0], models[name, seed]
        other = models[name, seeds[(k + 1) % len(seeds)]][0]  # of a single seed the same: nothing is known of two
        parts = [np.arange(len(gone)) == place for place in np.flatnonzero(gone)] if name == SINGLE else [gone]
        found, times = carried_out(original, parts, dataset, config.replace(seed=seed), 1 + config.anchor_epochs)
        sets = {"original": original, "withdrawn": found, "retrained": retrained}
        hr = {f"hr_{key}": hit_ratio(values) for key, values in sets.items()}
        of_users = {key: lists(values, np.unique(pairs[0])) for key, values in {**sets, "seeds": other}.items()}
        common = {key: overlap(of_users[key], of_users["retrained"]) for key in ("original", "withdrawn", "seeds")}
        if len(seeds) == 1 or not common["seeds"]:
            common["seeds"] = np.nan
        yield {"request": name, "seed": seed, "interactions": int(gone.sum()), "ms": 1e3 * float(np.median(times)),
               "retrain_seconds": seconds, "faster": seconds / float(np.median(times)),
               "hr_gap": hr["hr_withdrawn"] - hr["hr_retrained"], "overlap_relative": common["withdrawn"] / common["seeds"],
               **hr, **{f"overlap_{key}": value for key, value in common.items()},
               **{f"auc_{key}": membership_auc(values, whole, *pairs, config) for key, values in sets.items()}}


def overlap(one, other):
    """Mean share of items that two lists of each user have in common."""
    return float(np.mean([len(np.intersect1d(a, b)) / max(len(a), 1) for a, b in zip(one, other)]))


def carried_out(original, parts, dataset, config, sets):
    """The parameters after requests in a row, each (n,) bool, and the seconds that each took for so many sets of parameters.

    A checkpoint holds several.
    """
    values, times, left = original, [], np.ones(dataset.num_interactions, bool)
    for part in parts:
        carried = Withdrawal(build(dataset, config), dataset.part(left), config)
        start = time.perf_counter()
        found = carried({str(k): values for k in range(sets)}, part[left])
        times.append(time.perf_counter() - start)
        left &= ~part
        values = found["0"]
    return values, times


class Lists:
    """Users' lists of top_k items by any parameters, of what they have not touched."""

    def __init__(self, whole, config):
        self.whole, self.config, self.net = whole, config, build(whole, config)

    def __call__(self, values, users):
        """For each of some users the positions of their items."""
        self.net.set_values(values)
        found = top_items(self.net, users, self.whole, self.config.top_k, self.config.eval_batch_size)
        return [items for items, _ in found]


def hiding(kind, users, dataset, genres, lists, values, rng):
    """Of users in this order those who hide a genre, or one item, whose like is in their list, and as many who hide nothing.

    Alike are the items of the genre, or the nearest by the item embeddings of a model.

    Returns:
        gone: (n,) bool, the interactions that are hidden.
        alike: by group, "hide" and "control", by user (num_items,) bool.
    """
    embedding = lists.net.item_embeddings(values)
    near = np.argsort(-(embedding @ embedding.T), axis=1)[:, :NEAREST + 1]
    of_genre = {name: genres.map(lambda names, name=name: name in names).to_numpy() for name in genres.explode().unique()}
    chosen = {}
    for user, shown in zip(users.tolist(), lists(values, users)):
        rows = dataset.history.of(user)
        mine = dataset.item[rows]
        for item in rng.permutation(mine)[:5]:
            genre = kind == HIDE_GENRE and rng.choice(genres[item])  # "" where none is known
            if kind == HIDE_ITEM:
                alike, gone = np.isin(np.arange(dataset.num_items), np.setdiff1d(near[item], item)), mine == item
            elif genre:
                alike, gone = of_genre[genre], of_genre[genre][mine]
            else:
                continue
            if not gone.all() and alike[shown].any():
                chosen[user] = alike, rows.start + np.flatnonzero(gone)
                break
        if len(chosen) == 2 * HIDING:
            break
    both, gone = list(chosen), np.zeros(dataset.num_interactions, bool)
    groups = {"hide": both[:len(both) // 2], "control": both[len(both) // 2:]}
    for user in groups["hide"]:
        gone[chosen[user][1]] = True
    return gone, {group: {user: chosen[user][0] for user in users} for group, users in groups.items()}


def left_of(kind, gone, asked_for, models, dataset, lists, config):
    """A row for each group and way to hide: the share of the alike items that left, and how many there are in a list."""
    original = models[EVERYTHING, config.seed][0]
    after = {"retrained": models[kind, config.seed][0],
             "withdrawn": carried_out(original, [gone], dataset, config, 1)[0]}
    for group, alike_of in asked_for.items():
        users = np.array(sorted(alike_of))
        alike, before = [alike_of[user] for user in users.tolist()], lists(original, users)
        for road, values in after.items():
            yield {"hidden": kind, "road": road, "group": group, "seed": config.seed, "users": len(users),
                   **left(before, lists(values, users), alike)}


def left(before, after, alike):
    """Of the alike items in the lists before, the share that is not there after, and the mean number in a list."""
    gone = [np.setdiff1d(was[some[was]], now).size for was, now, some in zip(before, after, alike)]
    number = [int(some[was].sum()) for was, some in zip(before, alike)]
    now = [int(some[items].sum()) for items, some in zip(after, alike)]
    return {"left": sum(gone) / max(1, sum(number)), "before": float(np.mean(number)), "after": float(np.mean(now))}


def markdown(table, hidden):
    """How near requests are to trainings without, and what leaves lists when something is hidden, as Markdown."""
    distances = table.assign(left=abs(table.auc_withdrawn - table.auc_retrained),
                             whole=abs(table.auc_original - table.auc_retrained)).groupby("request", sort=False)
    lines = [averages(table, ["request"], {
        "interactions": "interactions", "ms": "ms a request", "retrain_seconds": "retraining, s", "hr_gap": "HR gap",
        "overlap_relative": "overlap, relative to two seeds'", "auc_original": "AUC before", "auc_withdrawn": "withdrawn",
        "auc_retrained": "retrained"}, 3), "", "Of the distance of the AUCs to a retraining is left: " + ", ".join(
            f"{name} {100 * one.left.mean() / one.whole.mean():.0f}%" for name, one in distances) + "."]
    if not hidden.empty:
        lines += ["", averages(hidden, ["hidden", "road", "group"], {
            "left": "share of alike items that leave", "before": "alike in a list, before", "after": "after"}, 3)]
    return "\n".join(lines)


def plot(path, table, title):
    """PNG of the membership AUC of withdrawn pairs before, after, and after a training without, by kind of request."""
    with picture(path, title, 1) as (panel,):
        names = list(dict.fromkeys(table.request))
        for k, (name, label, colour) in enumerate((("original", "before", GREY), ("withdrawn", "withdrawn", BLUE),
                                                   ("retrained", "trained anew", ORANGE))):
            values = [table[table.request == request][f"auc_{name}"] for request in names]
            panel.bar(np.arange(len(names)) + 0.27 * (k - 1), [v.mean() for v in values], 0.25, label=label, color=colour,
                      yerr=[v.std() if len(v) > 1 else 0 for v in values])
        panel.set(ylim=(0.5, 1.05), ylabel="membership AUC of what was withdrawn")
        panel.set_xticks(np.arange(len(names)), [name.replace(", ", ",\n").replace(" of ", "\nof ") for name in names])
        panel.legend(frameon=False, loc="upper center", ncols=3)


if __name__ == "__main__":
    main(withdrawal, "run_withdrawal", __doc__)
