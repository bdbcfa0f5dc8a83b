"""Does a mask carry over to recommenders that had no part in it? Started by scripts/run_carryover.sh.

Each strategy decides at one budget, by the base model; each judge (carryover_judges.py) is trained on what is disclosed and
ranks the test item among all items that the user has not touched, withheld ones left out. Masks and ranks are kept, so that
a stopped study goes on, and more judges, strategies and seeds add to it. See docs/results.md.
"""
import functools
import logging

import numpy as np
import pandas as pd

from src import metrics
from src.common.errors import InputError
from src.common.figures import GREY, as_written, picture
from src.common.plugins import label
from src.common.stage import main
from src.common.terminal import counted
from src.consent.unwillingness import data_files
from src.constants import MODELS
from src.dataset import load_dataset, without_test_items
from src.evaluation.evaluate import ranks_among_untouched
from src.game.strategies import NONE, STRATEGIES
from src.network import score_all
from src.options import TRAINED

from .carryover_judges import GRIDS, base_model, fitted, in_chunks, matrix_of, reason_against, version_of
from .grid import Retraining, Study, averages, grid, names_of, needs_validation, seeds_of
from .masks import OTHER_STYLE, STYLES, masks_of_seed

logger = logging.getLogger("ifrqe")

OWN = {"carryover_strategies": ("str", "none,random,threshold,ifrqe,ask-first",
                                "strategies, separated by commas, at wv_budget; none is always among them"),
       "carryover_judges": ("str", "item-knn,ease,als,ncf,mf,lightgcn",
                            "recommenders that judge the masks, separated by commas: ease; item-knn, als and bpr, which "
                            "need the package implicit; base models, trained anew")}


def carryover(config):
    """The study on the dataset that the settings name; writes carryover.csv, .md and .png.

    Raises:
        InputError: an unknown strategy or judge, no judge that can judge, or the dataset, a checkpoint or unwillingness is
            missing or unfit.
    """
    needs_validation(config)
    strategies = names_of(config, "carryover_strategies", "strategy", STRATEGIES)
    if NONE not in strategies:
        strategies.insert(0, NONE)  # what all others are compared with
    asked = names_of(config, "carryover_judges", "judge", (*GRIDS, *MODELS), files=False)
    study, seeds = Study("carryover", __name__, config), seeds_of(config)
    dataset = load_dataset(config)
    skipped = {judge: reason for judge in asked if (reason := reason_against(judge, dataset.num_items))}
    for judge, reason in skipped.items():
        logger.info("%s: left out: %s", judge, reason)
    judges = [judge for judge in asked if judge not in skipped]
    if not judges:
        raise InputError(f"--carryover_judges {config.carryover_judges}: none of them can judge here "
                         f"({'; '.join(f'{judge}: {reason}' for judge, reason in skipped.items())}); name others")
    settings = settings_of(study, [judge for judge in judges if judge in GRIDS], dataset)
    tables = []
    for seed in seeds:
        masks = masks_of_seed(study, seed, strategies)
        decided = masks.decided([(name, 1.0 if name == NONE else config.wv_budget) for name in strategies], "wv_budget")
        ranks = judged(masks, decided, judges, settings)
        tables.append(ranks.merge(decided.drop(columns="disclosed"), on=["strategy", "seed"]))
    found, k = pd.concat(tables, ignore_index=True), config.top_k
    table = found[["judge", "strategy", "seed", "wv_share", "spent_share", "disclosed_share"]].assign(
        strategy=found.strategy.map(label),
        **{f"hr@{k}": [metrics.hit_ratio_of_ranks(rank, k) for rank in found["ranks"]],
           f"ndcg@{k}": [metrics.ndcg_of_ranks(rank, k) for rank in found["ranks"]]})
    study.publish(table, markdown(table, config, judges, settings, skipped), plot, table, f"hr@{k}",
                  f"{config.dataset}: masks at {100 * config.wv_budget:g}% of the unwillingness, "
                  f"{counted(len(seeds), 'seed')} (dashed: everything disclosed)")


def settings_of(study, judges, dataset):
    """By judge of GRIDS what it is set to: of its grid the best NDCG of the validation items, trained on all histories."""
    config = study.config
    whole = without_test_items(dataset)

    def measure(judge):
        matrix, found = matrix_of(whole), []
        for setting in GRIDS[judge]:
            scored = in_chunks(fitted(judge, matrix, config.seed, setting), *matrix.shape, config.eval_batch_size)
            found.append(metrics.ndcg_of_ranks(ranks_among_untouched(whole, whole.validation, scored), config.top_k))
            logger.debug("%s %s: validation NDCG@%d %.4f", judge, setting, config.top_k, found[-1])
        return {"best": int(np.argmax(found))}
    depends = study.depends(("split", "candidates", "randomness"), data_files(config), rows=dataset.rows_sha256())
    found = grid(study, [{"judge": judge} for judge in judges], measure,
                 lambda judge: {**depends, "grid": GRIDS[judge], "package": version_of(judge)}, "settings")
    return {row.judge: GRIDS[row.judge][row.best] for row in found.itertuples()}


def judged(masks, decided, judges, settings):
    """DataFrame with a row for each mask and judge: (scored users,) ranks of the test items by what was trained on it."""
    dataset, config = masks.dataset, masks.config
    disclosed = dict(zip(decided.strategy, decided.disclosed))

    @functools.cache
    def retraining(judge):  # its graph is compiled once
        return Retraining(dataset, base_model(judge, config), masks.study.device)

    def depends(strategy, judge, **_):
        own = settings[judge] if judge in GRIDS else base_model(judge, config).select("model", *TRAINED)
        return {**masks.decisions, "setting": own, "package": version_of(judge)}

    def measure(strategy, judge, **_):
        part = dataset.part(disclosed[strategy])
        if judge in GRIDS:
            scores = fitted(judge, matrix_of(part), config.seed, settings[judge])
            scored = in_chunks(scores, dataset.num_users, dataset.num_items, config.eval_batch_size)
        else:
            retraining(judge)(part, config.seed)
            scored = score_all(retraining(judge).shown, dataset.scored, dataset.num_items, config.eval_batch_size)
        return {"ranks": ranks_among_untouched(dataset, dataset.test, scored)}
    cells = [{"judge": judge, "strategy": row.strategy, "budget": row.budget, "seed": row.seed}
             for row in decided.itertuples() for judge in judges]
    return grid(masks.study, cells, measure, depends, "ranks").drop(columns="budget")


def markdown(table, config, judges, settings, skipped):
    """carryover.md: HR and NDCG by judge and strategy, how judges are set, and by judge that was left out the reason."""
    k = config.top_k
    lines = [f"# {config.dataset}: masks at {100 * config.wv_budget:g}% of the unwillingness, judged by others", "",
             "The test item among all items that a user has not touched; mean over "
             f"{counted(table.seed.nunique(), 'seed')}.", "",
             averages(table, ["judge", "strategy"], {
                 "wv_share": "unwillingness disclosed", "spent_share": "spent on the way", f"hr@{k}": f"HR@{k}",
                 f"ndcg@{k}": f"NDCG@{k}"}), ""]
    for judge in judges:
        by = "training options" if judge == config.model else "recipe of its name"
        said = ", ".join(f"{key} {value:g}" for key, value in settings[judge].items()) + \
            " (chosen on the validation items, everything disclosed)" if judge in settings else f"trained anew by the {by}"
        lines.append(f"- {judge}: {said}")
    return "\n".join(lines + [f"- {judge}: left out: {reason}" for judge, reason in skipped.items()])


def plot(path, table, metric, title):
    """PNG of one metric by strategy, a panel for each judge, with standard deviations over seeds."""
    judges = list(table.groupby("judge", sort=False))
    with picture(path, title, len(judges)) as panels:
        for axes, (judge, rows) in zip(panels, judges):
            runs = rows.groupby("strategy", sort=False)[metric]
            value, spread = runs.mean(), runs.std().fillna(0)
            colors = [STYLES.get(name, OTHER_STYLE)[0] for name in value.index]
            axes.bar(range(len(value)), value, 0.7, yerr=spread, capsize=3, color=colors)
            axes.axhline(value[NONE], color=GREY, linestyle="--", linewidth=1)  # what all others are compared with
            axes.set_xticks(range(len(value)), list(map(as_written, value.index)), fontsize="small")
            axes.set(ylabel=metric.upper(), ylim=(0, 1.1 * (value + spread).max() or 1))
            axes.set_title(as_written(judge), fontsize="medium")


if __name__ == "__main__":
    main(carryover, "run_carryover", __doc__, own=OWN)
