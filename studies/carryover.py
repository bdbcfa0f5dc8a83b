"""Does a mask carry over to recommenders that had no part in it? Started by scripts/run_carryover.sh.

Each strategy decides at one budget, by each base model that it looks at; each judge (carryover_judges.py) is trained on what
is disclosed and ranks the test item among all items that the user has not touched, withheld ones left out. Masks and ranks
are kept, so that a stopped study goes on, and more models, judges, strategies and seeds add to it. See docs/results.md.
"""
import functools
import logging

import numpy as np
import pandas as pd

from src import metrics
from src.common.errors import InputError
from src.common.figures import GREY, as_written, picture
from src.common.plugins import file_label, label
from src.common.seeds import seed_settings
from src.common.stage import main
from src.common.terminal import counted
from src.consent.unwillingness import data_files
from src.constants import MODELS
from src.dataset import load_dataset, without_test_items
from src.evaluation.evaluate import ranks_among_untouched
from src.game.strategies import NONE, STRATEGIES, find
from src.network import score_all
from src.options import EVALUATED, TRAINED

from .carryover_judges import GRIDS, base_model, fitted, in_chunks, matrix_of, reason_against, version_of
from .grid import Retraining, Study, averages, grid, names_of, needs_validation, seeds_of
from .masks import OTHER_STYLE, STYLES, Masks, name_of, quality

logger = logging.getLogger("ifrqe")

OWN = {"carryover_models": ("str", "ncf", "base models that decide by themselves, separated by commas"),
       "carryover_strategies": ("str", "none,random,threshold,ifrqe,ask-first",
                                "strategies, separated by commas, at wv_budget; none is always among them"),
       "carryover_judges": ("str", "item-knn,ease,als,bpr,ncf,mf,lightgcn",
                            "what judges the masks, separated by commas; item-knn, als, bpr need the package implicit")}
ANY = "any"  # in the place of a base model, of masks for which none is looked at


def carryover(config):
    """The study on the dataset that the settings name; writes carryover.csv, .md and .png.

    Raises:
        InputError: an unknown model, strategy or judge, none that can judge, or the dataset or a checkpoint is unfit.
    """
    needs_validation(config)
    models = names_of(config, "carryover_models", "base model", tuple(MODELS))
    strategies = list(dict.fromkeys([NONE, *names_of(config, "carryover_strategies", "strategy", STRATEGIES)]))
    asked = names_of(config, "carryover_judges", "judge", (*GRIDS, *MODELS), files=False)
    study, seeds, dataset = Study("carryover", __name__, config), seeds_of(config), load_dataset(config)
    skipped = {judge: f"{judge}: left out: {why}" for judge in asked if (why := reason_against(judge, dataset.num_items))}
    for said in skipped.values():
        logger.info("%s", said)
    judges = [judge for judge in asked if judge not in skipped]
    if not judges:
        raise InputError(f"--carryover_judges {config.carryover_judges}: none of them can judge here "
                         f"({'; '.join(skipped.values())}); name others")
    settings = settings_of(study, [judge for judge in judges if judge in GRIDS], dataset)
    found = pd.concat([judged(study, seed, dataset, decided(study, seed, models, strategies), judges, settings)
                       for seed in seeds], ignore_index=True)
    everything = {(row.judge, row.seed): row.ranks for row in found[found.strategy == NONE].itertuples()}
    table = found[["model", "judge", "strategy", "seed", "wv_share", "spent_share", "disclosed_share"]].assign(
        strategy=found.strategy.map(label)).join(pd.DataFrame([
            quality(row.ranks, config.top_k, "full_", everything[row.judge, row.seed]) for row in found.itertuples()]))
    study.publish(table, markdown(table, config, settings, skipped), plot, table, f"full_hr@{config.top_k}",
                  f"{config.dataset}: masks at {100 * config.wv_budget:g}% of the unwillingness, "
                  f"{counted(len(seeds), 'seed')} (dashed: everything disclosed)")


def settings_of(study, judges, dataset):
    """By judge of GRIDS what it is set to: of its grid the best NDCG of the validation items, trained on all histories."""
    config, whole = study.config, without_test_items(dataset)

    def measure(judge):
        matrix, found = matrix_of(whole), []
        for setting in GRIDS[judge]:
            scored = in_chunks(fitted(judge, matrix, config.seed, setting), *matrix.shape, config.eval_batch_size)
            found.append(metrics.ndcg_of_ranks(ranks_among_untouched(whole, whole.validation, scored), config.top_k))
        return {"best": int(np.argmax(found))}
    depends = study.depends(("split", "candidates", "randomness"), data_files(config), rows=dataset.rows_sha256())
    found = grid(study, [{"judge": judge} for judge in judges], measure,
                 lambda judge: {**depends, "grid": GRIDS[judge], "package": version_of(judge)}, "settings")
    return {row.judge: GRIDS[row.judge][row.best] for row in found.itertuples()}


def decided(study, seed, models, strategies):
    """What strategies disclose at a seed, see Masks.decided, with a column `model`: by each that they look at, else ANY."""
    looking, found = [name for name in strategies if find(name).needs_model or find(name).asks], []
    for model, names in ((ANY, [name for name in strategies if name not in looking]), *((name, looking) for name in models)):
        config, folder = base_model(model, study.config) if model != ANY else study.config, file_label(model)
        config = seed_settings(config.replace(output_path=str(study.folder / folder)), seed)
        masks = Masks(study, config, any(find(name).needs_model for name in names), folder)
        cells = [(name, 1.0 if name == NONE else config.wv_budget) for name in names]
        found += [masks.decided(cells, "wv_budget").assign(model=label(model))] if cells else []
    return pd.concat(found, ignore_index=True)


def judged(study, seed, dataset, decided, judges, settings):
    """A row for each judge and row of `decided`, with (scored users,) ranks of test items by what was trained on it."""
    config, masks = study.config.replace(seed=seed), {name_of(mask): mask for mask in decided.disclosed}
    depends = study.depends(("split", *EVALUATED), data_files(config), config, rows=dataset.rows_sha256())

    @functools.lru_cache(1)
    def retraining(judge):  # its graph is compiled once
        return Retraining(dataset, base_model(judge, config), study.device)

    def measure(judge, mask, seed):
        part = dataset.part(masks[mask])
        if judge in GRIDS:
            scores = fitted(judge, matrix_of(part), seed, settings[judge])
            scored = in_chunks(scores, dataset.num_users, dataset.num_items, config.eval_batch_size)
        else:
            retraining(judge)(part, seed)
            scored = score_all(retraining(judge).shown, dataset.scored, dataset.num_items, config.eval_batch_size)
        return {"ranks": ranks_among_untouched(dataset, dataset.test, scored)}
    rows = pd.DataFrame({"judge": judges}).merge(decided.assign(mask=decided.disclosed.map(name_of)), how="cross")
    cells = rows[["judge", "mask", "seed"]].drop_duplicates().to_dict("records")  # equal masks are judged once
    return rows.merge(grid(study, cells, measure, lambda judge, **_: {
        **depends, "package": version_of(judge),
        "setting": settings.get(judge) or base_model(judge, config).select("model", *TRAINED)}, "ranks"))


def markdown(table, config, settings, skipped):
    """carryover.md: HR and NDCG by judge and mask, how judges are set, and by judge that was left out the reason."""
    k, number = config.top_k, counted(table.seed.nunique(), "seed")
    lines = [f"# {config.dataset}: masks at {100 * config.wv_budget:g}% of the unwillingness, judged by others", "",
             f"Test items among all that users have not touched, mean over {number}; judges: set on validation items.", "",
             averages(table.rename(columns={"model": "masks of"}), ["judge", "masks of", "strategy"], {
                 "wv_share": "unwillingness disclosed", "spent_share": "spent on the way", f"full_hr@{k}": f"HR@{k}",
                 f"gain_full_hr@{k}": "gain", f"full_ndcg@{k}": f"NDCG@{k}", f"gain_full_ndcg@{k}": "its gain"}), ""]
    for judge in table.judge.unique():
        said = ", ".join(f"{key} {value:g}" for key, value in settings.get(judge, {}).items())
        by = "the training options" if judge == config.model else "the recipe of its name"
        lines.append(f"- {judge}: {said or f'trained anew by {by}'}")
    return "\n".join(lines + [f"- {said}" for said in skipped.values()])


def plot(path, table, metric, title):
    """PNG of one metric, a panel for each judge: bars by strategy, side by side for each model whose masks they are."""
    with picture(path, title, table.judge.nunique()) as panels:
        for axes, (judge, rows) in zip(panels, table.groupby("judge", sort=False)):
            runs = rows.groupby(["model", "strategy"], sort=False)[metric]
            value, spread = runs.mean(), runs.std().fillna(0)
            place = pd.Series(np.arange(len(value)) + value.index.get_level_values(0).factorize()[0], value.index)
            for name, bars in place.groupby("strategy", sort=False):
                axes.bar(bars, value[bars.index], 0.9, yerr=spread[bars.index], capsize=3, label=as_written(name),
                         color=STYLES.get(name, OTHER_STYLE)[0])
            axes.axhline(value[ANY, NONE], color=GREY, linestyle="--", linewidth=1)  # what all others are compared with
            middle = place.groupby("model", sort=False).mean()
            axes.set_xticks(middle, [f"masks of {as_written(name)}" for name in middle.index], fontsize="small")
            axes.set(title=as_written(judge), ylabel=metric.upper(), ylim=(0, 1.3 * (value + spread).max() or 1))
        panels[0].legend(frameon=False, fontsize="small", ncols=3)


if __name__ == "__main__":
    main(carryover, "run_carryover", __doc__, own=OWN)
