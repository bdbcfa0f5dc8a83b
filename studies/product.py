"""What a product gains that holds nothing out, and what its updates are worth. Started by scripts/run_product.sh.

Each user's last interaction is hidden from all but the score. Of the rest, with the same unwillingness, the programs make
masks and models twice: as a study, which holds out two more of each user, and as a product, which decides all (--holdout 0)
and trains for as many epochs as were best in the study. Both recommend the hidden item. Then 1% of the interactions, each
among its user's latest, and 1% of the users are decided by updates of a product that was made without them. Runs are kept in
folders of their own, so that a stopped study goes on. See docs/results.md.
"""
import functools
import shutil
import time
from pathlib import Path

import numpy as np
import pandas as pd

from src import metrics
from src.candidates import counting, evaluation_candidates
from src.common.copying import copy_rows
from src.common.files import digest, read_json, write_json
from src.common.plugins import file_label
from src.common.stage import main
from src.common.stored import write_table
from src.common.variant import DIGESTS, Variant, dataset_folder, decision_files, ratings_path, record_of
from src.consent.unwillingness import data_files, load_stated
from src.constants import (
    DATASET_FILE,
    DISCLOSED,
    ITEM,
    MASKED_MODEL,
    MOVIES_FILE,
    RATINGS_FILE,
    TIMESTAMP,
    UNWILLINGNESS,
    UNWILLINGNESS_FILE,
    USER,
    train_file,
)
from src.dataset import load_dataset
from src.evaluation.evaluate import ranks_among_untouched
from src.game.preprocess import preprocess
from src.game.strategies import STRATEGIES, find, influence_groups
from src.game.update import update
from src.network import score, score_all
from src.options import EVALUATED, MASK, TRAINED
from src.stat_utils import generator
from src.training.checkpoint import load_checkpoint
from src.training.train import train

from .grid import Study, averages, grid, names_of, seeds_of

OWN = {"product_strategies": ("str", "none,ifrqe,ask-first", "strategies, separated by commas, at wv_budget; with none "
                              "everything is disclosed"),
       "product_parts": ("str", "holdout,updates", "what is measured: holdout, nothing held out against two items of each "
                         "user; updates, of the strategies that leave a price")}
RUNS = {"study": 2, "product": 0}  # by name how many interactions it holds out of each user, beside the hidden one
TRAININGS = "scratch", "warm"  # of the masked model after an update
NEW, IN_A_ROW = 0.01, 10  # the share of interactions, and of users, that arrive; the updates in a row in which they do
OTHER = 10_000  # added to the seed of the run that another is compared with
QUALITY = "hr@{}", "ndcg@{}", "full_hr@{}", "full_ndcg@{}"


def product(config):
    """The study on the dataset that the settings name; writes product.csv and .md; InputError for what is unfit."""
    strategies = names_of(config, "product_strategies", "strategy", STRATEGIES)
    study, seeds = Study("product", __name__, config), seeds_of(config)
    data = load_dataset(config.replace(holdout=1))  # its history is what runs know, its test items are hidden
    groups = ("model", *TRAINED, *EVALUATED, *influence_groups(config), *MASK)
    depends = study.depends(groups, data_files(config), rows=data.rows_sha256())
    hidden = functools.cache(lambda seed: Hidden(study, data, seed))
    table = pd.DataFrame({"strategy": strategy, "seed": seed} for seed in seeds for strategy in strategies)
    for part in names_of(config, "product_parts", "part", PARTS, files=False):
        cells = [cell for cell in table[["strategy", "seed"]].to_dict("records")
                 if part != "updates" or find(cell["strategy"]).otherwise]  # others leave no price to decide more by
        if cells:
            found = grid(study, cells, lambda strategy, seed, of=PARTS[part]: of(hidden(seed), strategy), depends, part)
            table = table.merge(found, "left", ["strategy", "seed"])
    study.publish(table, averages(table, ["strategy"], {name: name for name in table.columns[2:]}))


class Hidden:
    """The data of one seed, `data` without its test items; runs on them, and how well they recommend the hidden items."""

    def __init__(self, study, data, seed):
        self.data, self.config = data, study.config.replace(seed=seed)
        self.folder = study.folder / f"seed_{seed}"
        self.candidates = evaluation_candidates(data, "test", self.config)
        self.table = pd.DataFrame({USER: data.user_ids[data.user], ITEM: data.item_ids[data.item],
                                   UNWILLINGNESS: load_stated(data, self.config)[0],
                                   TIMESTAMP: data.time})

    def run(self, name, strategy, holdout=0, without=False, copied=None, **more):
        """The settings of a run in a folder of its own, with the data but those `without`, or `copied` from another run."""
        folder = self.folder / f"{file_label(strategy)}_{name}"
        config = self.config.replace(
            **dict.fromkeys(("data_path", "output_path", "checkpoint_path"), str(folder)), holdout=holdout,
            strategy=strategy, unwillingness="file", willingness_file="", veto=False, personal="False", seeds=[], archive="",
            items="", **more)
        if copied:
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(copied.data_path, folder)
            return config
        target, kept = dataset_folder(config), ~np.broadcast_to(without, len(self.table))
        target.mkdir(parents=True, exist_ok=True)
        copy_rows(ratings_path(self.config), np.bincount(self.data.rows[kept]) > 0, target / RATINGS_FILE)
        write_table(self.table[[USER, ITEM, UNWILLINGNESS]][kept], target / UNWILLINGNESS_FILE)
        write_table(pd.DataFrame({ITEM: self.data.item_ids, "title": "", "genres": ""}), target / MOVIES_FILE)
        write_json(target / DATASET_FILE, {**record_of(dataset_folder(self.config)), DIGESTS: {
            name: digest(target / name) for name in (RATINGS_FILE, MOVIES_FILE)}})
        return config

    def compared(self, strategy):
        """By name of RUNS and of QUALITY what the run comes to; the epochs of both, and the shares of what they disclose."""
        found, epochs = {}, self.config.train_epochs
        for name, holdout in RUNS.items():
            config = self.run(name, strategy, holdout)
            preprocess(config)
            said = self.trained(config.replace(train_epochs=epochs, warmup_epochs=min(epochs, config.warmup_epochs)))
            epochs = said["epochs"]
            disclosed, share = self.decided(config)
            found |= {f"{name}_{key}": value for key, value in {
                **said, "disclosed_share": disclosed.mean(), "wv_share": share}.items()}
        return found

    def trained(self, config):
        """Trains the masked model: by name of QUALITY how it recommends the hidden items; its best epoch, and seconds."""
        train(Variant(config, True))
        said = read_json(Path(config.output_path) / train_file(MASKED_MODEL), "remove it")
        data, k, size = self.data, config.top_k, config.eval_batch_size
        net, _ = load_checkpoint(Variant(config, True).checkpoint, data, Variant(config, True))
        ranks = (metrics.ranks(score(net, self.candidates, size, data.scored), counting(self.candidates)),
                 ranks_among_untouched(data, data.test, score_all(net, data.scored, data.num_items, size)))
        values = [of(rank, k) for rank in ranks for of in (metrics.hit_ratio_of_ranks, metrics.ndcg_of_ranks)]
        return {**{name.format(k): value for name, value in zip(QUALITY, values)}, "epochs": said["best_epoch"],
                "seconds": said["seconds"]}

    def decided(self, config):
        """(n,) bool, what of the data a run discloses; and which share of the unwillingness of all that it has decided."""
        found = pd.read_csv(decision_files(config)[0])
        table = self.table.astype({USER: found[USER].dtype, ITEM: found[ITEM].dtype}).merge(
            found[[USER, ITEM, DISCLOSED]], "left", [USER, ITEM])
        disclosed, b = table[DISCLOSED].to_numpy() == 1, table[UNWILLINGNESS]
        return disclosed, b[disclosed].sum() / b[table[DISCLOSED].notna()].sum()

    def arriving(self):
        """(n,) int, with which update each interaction arrives, each user's in order of time; -1 with none."""
        user, users, rng = self.data.user, self.data.num_users, generator(self.config.seed, "what arrives")
        latest = np.bincount(rng.integers(users, size=round(NEW * len(user))), minlength=users)[user]
        strangers = np.isin(user, rng.permutation(users)[:max(1, round(NEW * users))])
        number = np.where(self.data.history.from_end < latest, rng.integers(IN_A_ROW, size=len(user)), -1)
        number = number[np.lexsort((number, user))]
        return np.where(strangers, rng.integers(IN_A_ROW, size=users)[user], number)

    def updated(self, strategy):
        """Agreement with one run over everything after one update, IN_A_ROW, and at another seed; models after one."""
        number, before, found = self.arriving(), None, {}
        new, everything = number >= 0, self.run("product", strategy)
        preprocess(everything)
        preprocess(other := self.run("again", strategy, seed=self.config.seed + OTHER))
        preprocess(before := self.run("before", strategy, without=new))
        train(Variant(before, True))
        runs, whole = {"seeds": other}, self.decided(everything)[0]
        for name, parts in (("once", [new]), ("row", [number == k for k in range(IN_A_ROW)])):
            runs[name] = config = self.run(name, strategy, copied=before)
            for part in filter(np.any, parts):
                write_table(self.table[part], file := self.folder / f"{name}.csv")
                start = time.perf_counter()
                update(config.replace(update=str(file)))
                found.setdefault("seconds", time.perf_counter() - start)
        for name, config in runs.items():
            same = self.decided(config)[0] == whole
            found |= {f"{name}_all": same.mean(), f"{name}_new": same[new].mean()}
        found["row_wv_share"] = self.decided(runs["row"])[1]
        apart = str(Path(runs["once"].output_path) / "scratch")
        for name, config in zip(TRAININGS, (runs["once"].replace(output_path=apart, checkpoint_path=apart),
                                            runs["once"].replace(warm_start=True))):
            found |= {f"{name}_{key}": value for key, value in self.trained(config).items()}
        return found


PARTS = {"holdout": Hidden.compared, "updates": Hidden.updated}


if __name__ == "__main__":
    main(product, "run_product", __doc__, own=OWN)
