"""What a product gains that holds nothing out, and what its updates are worth. Started by scripts/run_product.sh.

Each user's last interaction is hidden from everything but the score. Of the rest, with the same unwillingness, the programs
make masks and models twice: as a study, which holds out two interactions more of each user, and as a product, which decides
them all (--holdout 0) and trains for as many epochs as were best in the study. Both recommend the hidden item. Runs are kept
in folders of their own, so that a stopped study goes on. See docs/results.md.
"""
import functools
import logging
from pathlib import Path

import numpy as np
import pandas as pd

from src import metrics
from src.candidates import counting, evaluation_candidates
from src.common.files import atomic_write, read_json, write_csv
from src.common.stage import main
from src.common.tables import copy_rows
from src.common.variant import Variant, dataset_folder, decision_files, ratings_path
from src.common.wording import counted
from src.consent.unwillingness import data_files, load_unwillingness
from src.constants import ITEM, MASKED_MODEL, MOVIES_FILE, RATINGS_FILE, UNWILLINGNESS, UNWILLINGNESS_FILE, USER, train_file
from src.dataset import load_dataset
from src.evaluation.evaluate import ranks_among_untouched
from src.game.preprocess import preprocess
from src.game.strategies import STRATEGIES, influence_groups
from src.network import score, score_all
from src.options import EVALUATED, MASK, TRAINED
from src.training.checkpoint import load_checkpoint
from src.training.train import train

from .grid import Study, grid, markdown_table, names_of, seeds_of

logger = logging.getLogger("ifrqe")

OWN = {"product_strategies": ("str", "none,ifrqe,ask-first", "strategies, separated by commas, at wv_budget; with none "
                              "everything is disclosed")}
RUNS = {"study": 2, "product": 0}  # by name how many interactions it holds out of each user, beside the hidden one
QUALITY = "hr@{}", "ndcg@{}", "full_hr@{}", "full_ndcg@{}"


def product(config):
    """The study on the dataset that the settings name; writes product.csv and .md.

    Raises:
        InputError: an unknown strategy, or the dataset or the unwillingness is missing or unfit.
    """
    strategies = names_of(config, "product_strategies", "strategy", STRATEGIES)
    logger.info("--holdout %d: counts for nothing here, where runs with 2 and with 0 are compared", config.holdout)
    study, seeds = Study("product", __name__, config), seeds_of(config)
    data = load_dataset(config.replace(holdout=1))  # its history is what runs know, its test items are hidden
    groups = ("model", *TRAINED, *EVALUATED, *influence_groups(config), *MASK)
    depends = study.depends(groups, data_files(config), rows=data.rows_sha256())
    hidden = functools.cache(lambda seed: Hidden(study, data, seed))
    cells = [{"strategy": strategy, "seed": seed} for seed in seeds for strategy in strategies]
    found = grid(study, cells, lambda strategy, seed: hidden(seed).compared(strategy), depends)
    study.publish(found, markdown(found, config, seeds))


class Hidden:
    """The data of one seed, `data` without its test items; runs on them, and how well they recommend the hidden items."""

    def __init__(self, study, data, seed):
        self.data, self.config = data, study.config.replace(seed=seed)
        self.folder = study.folder / f"seed_{seed}"
        self.unwillingness = load_unwillingness(data, self.config)
        self.candidates = evaluation_candidates(data, "test", self.config)

    def run(self, name, strategy, holdout, rows):
        """The settings of a run on some rows of ratings.csv, in a folder of its own, where the data are written."""
        data, folder = self.data, self.folder / name
        config = self.config.replace(
            **dict.fromkeys(("data_path", "output_path", "checkpoint_path"), str(folder)), holdout=holdout,
            strategy=strategy, unwillingness="file", willingness_file="", veto=False, personal="False", seeds=[], archive="",
            items="", min_ratings=1, max_ratings=0)
        target = dataset_folder(config)
        target.mkdir(parents=True, exist_ok=True)
        with atomic_write(target / RATINGS_FILE) as temporary:
            copy_rows(ratings_path(self.config), np.sort(rows), temporary)
        users, items = data.user_ids[data.user], data.item_ids[data.item]
        for file, columns in ((UNWILLINGNESS_FILE, {USER: users, ITEM: items, UNWILLINGNESS: self.unwillingness}),
                              (MOVIES_FILE, {ITEM: data.item_ids, "title": "", "genres": ""})):
            with atomic_write(target / file) as temporary:
                write_csv(pd.DataFrame(columns), temporary)
        return config

    def compared(self, strategy):
        """By name of RUNS and of QUALITY what the run comes to; the epochs of both, and the shares of what they disclose."""
        found, epochs = {}, None
        for name, holdout in RUNS.items():
            config = self.run(f"{strategy}_{name}", strategy, holdout, self.data.rows)
            preprocess(config)
            trained = config if epochs is None else config.replace(train_epochs=epochs,
                                                                   warmup_epochs=min(epochs, config.warmup_epochs))
            epochs = self.trained(trained)
            record = read_json(decision_files(config)[1], "remove it")
            found |= {f"{name}_{key}": value for key, value in {
                **self.quality(trained), "epochs": epochs, "disclosed_share": record["disclosed_share"],
                "wv_share": record["wv"] / record["total_wv"]}.items()}
        return found

    def trained(self, config):
        """Trains the masked model; returns which of its epochs was best."""
        train(Variant(config, True))
        return read_json(Path(config.output_path) / train_file(MASKED_MODEL), "remove it")["best_epoch"]

    def quality(self, config):
        """By name of QUALITY how well the masked model recommends the hidden items."""
        data, k, size = self.data, config.top_k, config.eval_batch_size
        net, _ = load_checkpoint(Variant(config, True).checkpoint, data, Variant(config, True))
        ranks = (metrics.ranks(score(net, self.candidates, size, data.scored), counting(self.candidates)),
                 ranks_among_untouched(data, data.test, score_all(net, data.scored, data.num_items, size)))
        values = [of(rank, k) for rank in ranks for of in (metrics.hit_ratio_of_ranks, metrics.ndcg_of_ranks)]
        return {name.format(k): value for name, value in zip(QUALITY, values)}


def markdown(found, config, seeds):
    """A table: by strategy and metric the means of both, and the paired difference with its standard error."""
    rows = []
    for strategy, runs in found.groupby("strategy", sort=False):
        for name in (name.format(config.top_k) for name in QUALITY):
            gain = runs[f"product_{name}"] - runs[f"study_{name}"]
            error = "" if len(gain) < 2 else f" ± {gain.std(ddof=1) / len(gain) ** .5:.4f}"
            means = [f"{runs[f'{run}_{name}'].mean():.4f}" for run in RUNS]
            rows.append([strategy, name, *means, f"{gain.mean():+.4f}{error}"])
    title = f"{config.dataset}, masks at {100 * config.wv_budget:g}%, {counted(len(seeds), 'seed')}: the hidden item"
    return f"{title}\n\n{markdown_table(('strategy', 'metric', *RUNS, 'difference'), rows)}"


if __name__ == "__main__":
    main(product, "run_product", __doc__, own=OWN)
