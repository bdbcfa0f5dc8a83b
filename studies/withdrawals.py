"""Is withdrawing as good as training anew, and does the button work? Started by scripts/run_withdrawal.sh.

Requests of several kinds are carried out on the models of several seeds, and beside each a model is trained without what was
withdrawn. The same for users who hide a genre, or a film: how many of the alike items leave their lists, against users who
hide nothing. Trained models are kept, each in a file of its own, so that a stopped study goes on. See docs/results.md.
"""
import hashlib
import re
import time
from pathlib import Path

import numpy as np
import pandas as pd

from src.common.errors import InputError
from src.common.figures import drawn
from src.common.stage import Stage, kept, main
from src.common.terminal import progress
from src.common.variant import asked, dataset_files
from src.common.wording import markdown_table, mean_and_std
from src.constants import GENRES, STUDY_SEEDS, WITHDRAWAL_FILE
from src.dataset import load_dataset
from src.device_adapter import set_device
from src.evaluation.forgetting import Judge
from src.evaluation.recommend import top_items
from src.influence.withdrawal import Withdrawal
from src.network import build
from src.options import TRAINED
from src.sources.catalogue import load_catalogue
from src.stat_utils import generator
from src.training.checkpoint import BEST, in_one, with_prefix
from src.training.train import train_in_memory

from .figures import withdrawal_plot
from .retraining import show, write_tables

FOLDER, TABLE, PLOT = "withdrawal", "withdrawal.md", "withdrawal.png"
IN_A_ROW, OF_GENRE, HIDING, NEAREST = 100, 100, 500, 20  # most requests; users; users of the button study; alike items
EVERYTHING, SINGLE, USER, ONE_PERCENT, FIVE_PERCENT, GENRE = (
    "nothing", "1 interaction, up to 100 in a row", "one user", "1% of users", "5% of users", "a genre of up to 100 users")
HIDE_GENRE, HIDE_ITEM = "a genre", "one item"
ROADS = ("retrained", "withdrawn", "filtered")
_FILE = re.compile(r"\W+")  # what a file's name does not have


def withdrawal(config):
    """The study on the data of the model that --masked names; writes withdrawal.csv, .md and .png.

    Raises:
        InputError: the dataset is missing or unfit.
    """
    variant = asked(config)
    dataset, whole = load_dataset(variant.settings(), variant.masked), load_dataset(config)
    config, device = variant.settings(), set_device(config)
    if build(dataset, config).propagation(dataset) is not None:
        raise InputError(f"--model {config.model}: nothing can be withdrawn from it; see train.py --withdraw")
    output, seeds = Path(config.output_path), config.seeds or [config.seed + k for k in range(STUDY_SEEDS)]
    genres = load_catalogue(whole, config)[GENRES].str.split("|")
    requests = _requests(dataset, genres, generator(config.seed, "withdrawal study"))
    stage = Stage("withdrawal", __name__, config, ("split", "model", *TRAINED, "repetition"),
                  dataset_files(config, variant.masked),
                  [output / WITHDRAWAL_FILE, output / TABLE], device, {"rows": dataset.rows_sha256()})
    nothing, models, trained = np.zeros(dataset.num_interactions, bool), Models(config, dataset, stage.depends, device), {}
    buttons = Buttons(dataset, whole, genres, config, models(EVERYTHING, nothing, seeds[0])[0])
    jobs = {EVERYTHING: nothing, **requests, **buttons.hidden}
    with progress(len(seeds) * len(jobs), "withdrawal study", "training") as bar:
        for seed in seeds:
            for name, gone in jobs.items():
                trained[name, seed] = models(name, gone, seed)
                bar.update()
    rows = [row for name, gone in requests.items() for row in _compare(name, gone, trained, seeds, dataset, whole, config)]
    table, hidden = pd.DataFrame(rows), pd.DataFrame(buttons.rows(trained, seeds))
    text = _markdown(table) + ("" if hidden.empty else f"\n\n{_buttons_markdown(hidden)}")
    write_tables(output, pd.concat([table, hidden]), WITHDRAWAL_FILE, text, TABLE)
    drawn(withdrawal_plot, output / PLOT, table, f"{dataset.name}: what is left of what was withdrawn")
    stage.finish()
    show(text, output, WITHDRAWAL_FILE, TABLE, PLOT)


def _requests(dataset, genres, rng):
    """By kind of request that is possible the (n,) interactions that are withdrawn; the kinds have different users."""
    length = np.bincount(dataset.user, minlength=dataset.num_users)
    users = rng.permutation(np.flatnonzero(length > 1))
    numbers = {USER: 1, ONE_PERCENT: dataset.num_users // 100, FIVE_PERCENT: dataset.num_users // 20}
    if not len(users):
        raise InputError(f"dataset {dataset.name}: nobody has two training interactions, so that one could be withdrawn; "
                         "give the study more data")
    start = min(IN_A_ROW, -(-len(users) // 2))  # half of few users are left for the other requests
    found = {SINGLE: np.zeros(dataset.num_interactions, bool)}
    found[SINGLE][np.searchsorted(dataset.user, users[:start]) + rng.integers(0, length[users[:start]])] = True
    for name, number in numbers.items():
        found[name] = np.isin(dataset.user, users[start:start + number])
        start += number
    named = genres[dataset.item].explode()
    named = named[named != ""]
    if len(named):
        most = named.mode()[0]  # the genre that most interactions have
        of_genre = genres.map(lambda names: most in names).to_numpy()
        found[GENRE] = np.isin(dataset.user, users[start:start + OF_GENRE]) & of_genre[dataset.item]
    return {name: gone for name, gone in found.items() if gone.any()}


class Models:
    """Trained models without some interactions, kept under output_path/withdrawal."""

    def __init__(self, config, dataset, depends, device):
        self.config, self.dataset, self.depends, self.device = config, dataset, depends, device

    def __call__(self, name, gone, seed):
        """Parameters of the best epoch, and the seconds of the training."""
        config = self.config.replace(seed=seed)
        path = Path(config.output_path) / FOLDER / f"{_FILE.sub('_', name)}_{seed}.npz"
        key = {**self.depends, "settings": config.select("split", "model", *TRAINED),
               "gone_sha256": hashlib.sha256(np.packbits(gone).tobytes()).hexdigest()}

        def make():
            start = time.perf_counter()
            values = train_in_memory(config, self.dataset.part(~gone), self.device)
            return {"seconds": time.perf_counter() - start, **in_one({BEST: values})}
        found = kept(path, key, make, config.overwrite)
        return with_prefix(found, BEST), float(found["seconds"])


def _compare(name, gone, trained, seeds, dataset, whole, config):
    """A dict for each seed: a request on its model against the training without."""
    judge = Judge(whole, dataset.user[gone], dataset.item[gone], config)
    for k, seed in enumerate(seeds):
        original, (retrained, seconds) = trained[EVERYTHING, seed][0], trained[name, seed]
        other = trained[name, seeds[(k + 1) % len(seeds)]][0]  # of a single seed the same: nothing is known of two
        of_seed = config.replace(seed=seed)
        parts = [np.arange(len(gone)) == place for place in np.flatnonzero(gone)] if name == SINGLE else [gone]
        found, times = _carried_out(original, parts, dataset, of_seed, 1 + config.anchor_epochs)
        result = judge.compared(original, found, retrained, other)
        if len(seeds) == 1:
            result["overlap"]["seeds"] = result["overlap_relative"] = np.nan
        yield {"request": name, "seed": seed, "interactions": int(gone.sum()), "ms": 1e3 * float(np.median(times)),
               "retrain_seconds": seconds, "faster": seconds / float(np.median(times)), "hr_gap": result["hr_gap"],
               "overlap_relative": result["overlap_relative"],
               **{f"hr_{key}": value for key, value in result["hr"].items()},
               **{f"overlap_{key}": value for key, value in result["overlap"].items()},
               **{f"auc_{key}": value for key, value in result["membership_auc"].items()}}


def _carried_out(original, parts, dataset, config, sets):
    """The parameters after requests in a row, each (n,) bool, and the seconds that each took for so many sets of parameters.

    A checkpoint holds several.
    """
    carried, values, times = Withdrawal(build(dataset, config), dataset, config), original, []
    for part in parts:
        start = time.perf_counter()
        found = carried({str(k): values for k in range(sets)}, part)
        times.append(time.perf_counter() - start)
        carried.done(part)
        values = found["0"]
    return values, times


class Buttons:
    """Users who hide a genre, or one item, all that is alike in their lists, and as many users who hide nothing.

    Alike are the items of the genre, or the nearest by the item embeddings of the first model. Asked is who has something
    alike in their list.

    Attributes:
        hidden: by kind the (n,) interactions that are hidden.
    """

    def __init__(self, dataset, whole, genres, config, values):
        self.dataset, self.whole, self.config = dataset, whole, config
        self.net = build(dataset, config)
        embedding = self.net.item_embeddings(values)
        near = np.argsort(-(embedding @ embedding.T), axis=1)[:, :NEAREST + 1]
        nearest = np.zeros((dataset.num_items, dataset.num_items), bool)
        nearest[np.arange(len(near))[:, None], near] = True
        np.fill_diagonal(nearest, False)
        rng = generator(config.seed, "hiding users")
        users = rng.permutation(np.unique(dataset.user))
        lists = dict(zip(users.tolist(), self._lists(values, users)))
        of_genre = {name: genres.map(lambda of_item, name=name: name in of_item).to_numpy()
                    for name in genres.explode().unique()}
        self.hidden, self.asked = {}, {}
        for kind in (HIDE_GENRE, HIDE_ITEM):
            chosen = {}
            for user in users.tolist():
                start, end = np.searchsorted(dataset.user, [user, user + 1])
                mine = dataset.item[start:end]
                for item in rng.permutation(mine)[:5]:
                    if kind == HIDE_ITEM:
                        alike, gone = nearest[item], mine == item
                    else:
                        genre = rng.choice(genres[item])  # "" where none is known
                        alike, gone = (of_genre[genre], of_genre[genre][mine]) if genre else (None, None)
                    if gone is not None and not gone.all() and alike[lists[user]].any():
                        chosen[user] = alike, start + np.flatnonzero(gone)
                        break
                if len(chosen) == 2 * HIDING:
                    break
            both = list(chosen)
            hide, control = both[:len(both) // 2], both[len(both) // 2:]
            self.asked[kind] = {name: {user: chosen[user][0] for user in names}
                                for name, names in (("hide", hide), ("control", control))}
            gone = np.zeros(dataset.num_interactions, bool)
            gone[np.concatenate([chosen[user][1] for user in hide] or [[]]).astype(int)] = True
            if gone.any():
                self.hidden[kind] = gone

    def _lists(self, values, users):
        """The top_k items of some users by some parameters."""
        self.net.set_values(values)
        found = top_items(self.net, users, self.whole, self.config.top_k, self.config.eval_batch_size)
        return [items for items, _ in found]

    def rows(self, trained, seeds):
        """A dict for each kind, road, group and seed: the share of the alike items that left, and how many there are."""
        for kind, gone in self.hidden.items():
            for seed in seeds:
                config, original = self.config.replace(seed=seed), trained[EVERYTHING, seed][0]
                after = {"retrained": trained[kind, seed][0],
                         "withdrawn": _carried_out(original, [gone], self.dataset, config, 1)[0]}
                for group, asked_for in self.asked[kind].items():
                    users = np.array(sorted(asked_for))
                    alike = [asked_for[user] for user in users.tolist()]
                    before = self._lists(original, users)
                    for road in ROADS:
                        if road in after:
                            now = self._lists(after[road], users)
                        else:  # the hidden item itself is in no list; of a genre the list loses all that is left of it
                            now = [items[~some[items]] if kind == HIDE_GENRE and group == "hide" else items
                                   for items, some in zip(before, alike)]
                        yield {"hidden": kind, "road": road, "group": group, "seed": seed, "users": len(users),
                               **_left(before, now, alike)}


def _left(before, after, alike):
    """Of the alike items in the lists before, the share that is not there after, and the mean number in a list."""
    left = [np.setdiff1d(was[some[was]], now).size for was, now, some in zip(before, after, alike)]
    number = [int(some[was].sum()) for was, some in zip(before, alike)]
    now = [int(some[items].sum()) for items, some in zip(after, alike)]
    return {"left": sum(left) / max(1, sum(number)), "before": float(np.mean(number)), "after": float(np.mean(now))}


def _markdown(table):
    header = ["withdrawn", "interactions", "ms a request", "retraining, s", "times faster", "HR gap", "overlap", "two seeds",
              "relative", "AUC before", "withdrawn", "retrained", "distance left"]
    rows = []
    for name, runs in table.groupby("request", sort=False):
        distance = abs(runs.auc_withdrawn - runs.auc_retrained).mean() / abs(runs.auc_original - runs.auc_retrained).mean()
        rows.append([name, f"{runs.interactions.iloc[0]:,}", f"{runs.ms.mean():.0f}", f"{runs.retrain_seconds.mean():.1f}",
                     f"{runs.faster.mean():.0f}", mean_and_std(runs.hr_gap), mean_and_std(runs.overlap_withdrawn),
                     *(f"{x.mean():.3f}".replace("nan", "") for x in (runs.overlap_seeds, runs.overlap_relative)),
                     f"{runs.auc_original.mean():.3f}", f"{runs.auc_withdrawn.mean():.3f}",
                     f"{runs.auc_retrained.mean():.3f}", f"{100 * distance:.0f}%"])
    return markdown_table(header, rows)


def _buttons_markdown(hidden):
    header = ["hidden", "by", "alike items that leave", "of users who hide nothing", "alike in a list, before", "after",
              "of the others, after"]
    rows = []
    for (kind, road), runs in hidden.groupby(["hidden", "road"], sort=False):
        hide, control = (runs[runs.group == name] for name in ("hide", "control"))
        rows.append([kind, road, f"{100 * hide.left.mean():.1f}%", f"{100 * control.left.mean():.1f}%",
                     f"{hide.before.mean():.2f}", f"{hide.after.mean():.2f}", f"{control.after.mean():.2f}"])
    return markdown_table(header, rows)


if __name__ == "__main__":
    main(withdrawal, "run_withdrawal", __doc__)
