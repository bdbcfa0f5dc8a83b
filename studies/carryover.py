"""Does a mask carry over to recommenders that had no part in it? Started by scripts/run_carryover.sh.

Each strategy decides at one budget, by the base model; each judge (carryover_judges.py) is trained on what is disclosed and
ranks the test item among all items that the user has not touched, withheld ones left out. Masks and ranks are kept, each
in a file of its own, so that a stopped study goes on, and more judges, strategies and seeds add to it. See docs/method.md.
"""
import logging
from pathlib import Path

import numpy as np
import pandas as pd

from src import metrics
from src.common.errors import InputError
from src.common.figures import drawn
from src.common.plugins import file_label, label, plugin_files
from src.common.stage import Stage, main
from src.common.terminal import progress
from src.common.wording import counted
from src.consent.unwillingness import data_files
from src.constants import CARRYOVER_FILE, MODELS, STUDY_SEEDS
from src.device_adapter import set_device
from src.evaluation.evaluate import ranks_among_untouched
from src.evaluation.quarters import QUARTERS, quarter_of
from src.game.problem import load_problem
from src.game.strategies import NONE, STRATEGIES, find
from src.network import score_all
from src.options import TRAINED

from .carryover_judges import GRIDS, base_model, choose, fitted, in_chunks, matrix_of, reason_against, version_of
from .figures import carryover_plot
from .retraining import Retraining, names_of, needs_validation, show, write_tables
from .runs import SeedMasks, groups_of_runs, settings_of_seed
from .tables import carryover_markdown

logger = logging.getLogger("ifrqe")

OWN = {"carryover_strategies": ("str", "none,random,threshold,ifrqe,ask-first",
                                "strategies, separated by commas, at wv_budget; none is always among them"),
       "carryover_judges": ("str", "item-knn,ease,als,ncf,mf,lightgcn",
                            "recommenders that judge the masks, separated by commas: ease; item-knn, als and bpr, which "
                            "need the package implicit; base models, trained anew")}
FOLDER, TABLE, PLOT = "carryover", "carryover.md", "carryover.png"


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
    device = set_device(config)
    output, seeds = Path(config.output_path), config.seeds or [config.seed + k for k in range(STUDY_SEEDS)]
    problem = load_problem(config)
    skipped = {judge: reason for judge in asked if (reason := reason_against(judge, problem.dataset.num_items))}
    for judge, reason in skipped.items():
        logger.info("%s: left out: %s", judge, reason)
    judges = [judge for judge in asked if judge not in skipped]
    if not judges:
        raise InputError(f"--carryover_judges {config.carryover_judges}: none of them can judge here "
                         f"({'; '.join(f'{judge}: {reason}' for judge, reason in skipped.items())}); name others")
    needed, rows = any(find(name).needs_model for name in strategies), []
    with progress(len(judges) + len(seeds) * len(strategies) * (1 + len(judges)), "carry-over", "step") as bar:
        settings = _settings(judges, problem, config, device, bar)
        for seed in seeds:
            # what its trainings report is not what train.py has written under output_path
            of_seed = settings_of_seed(config, seed, needed).replace(output_path=str(output / FOLDER / f"seed_{seed}"))
            rows += JudgedSeed(of_seed, output / FOLDER, device, needed, settings, bar).rows(strategies)
    table = pd.DataFrame(rows)
    text = carryover_markdown(table, _quarters(problem.dataset)[1], config, settings, skipped)
    write_tables(output, table, CARRYOVER_FILE, text, TABLE)
    Stage("carryover", __name__, config, (*groups_of_runs(config), "decision", "repetition"),
          data_files(config) + plugin_files(*strategies), [output / name for name in (CARRYOVER_FILE, TABLE)],
          device, {"own": config.own}).finish()
    drawn(carryover_plot, output / PLOT, table, f"hr@{config.top_k}", f"{config.dataset}: masks at "
          f"{100 * config.wv_budget:g}% of the unwillingness, {counted(len(seeds), 'seed')} (dashed: everything disclosed)")
    show(text, output, CARRYOVER_FILE, TABLE, PLOT)


def _settings(judges, problem, config, device, bar):
    """By judge what it is set to, a dict; None for base models, which go by the training options."""
    settings = {}
    for judge in judges:
        settings[judge] = None
        if judge in GRIDS:
            depends = Stage(FOLDER, __name__, config, ("split", "candidates", "randomness", "unwillingness"),
                            data_files(config), [], device).depends
            key = {**depends, "grid": GRIDS[judge], "package": version_of(judge)}
            settings[judge] = choose(judge, problem, config, Path(config.output_path) / FOLDER / judge / "setting.npz", key)
        bar.update()
    return settings


def _quarters(dataset):
    """(scored users,) the quarter of each by their history, and the shortest and the longest history of each quarter."""
    history = np.bincount(dataset.user, minlength=dataset.num_users)[dataset.scored]
    quarter = quarter_of(history)
    return quarter, [(int(history[quarter == k].min()), int(history[quarter == k].max())) for k in np.unique(quarter)]


class JudgedSeed(SeedMasks):
    """The masks of one seed, see SeedMasks, and what the judges make of them; each moves on the progress bar.

    `settings`: by judge what it is set to.
    """

    def __init__(self, config, folder, device, needed, settings, bar):
        super().__init__(config, folder, device, needed, "wv_budget")
        self.settings, self.bar = settings, bar
        self.quarter = _quarters(self.dataset)[0]
        self.retrained = {}  # by base model what trains it, since its graph is compiled once

    def rows(self, strategies):
        """A dict for each strategy and judge."""
        rows, k = [], self.config.top_k
        for strategy in strategies:
            disclosed = self.mask(strategy)
            self.bar.update()
            _, wv_share, spent_share = self.violation(strategy, disclosed)
            for judge in self.settings:
                rank = self.ranks(judge, strategy, disclosed)
                quarters = {f"q{q + 1}": float((rank[self.quarter == q] < k).mean()) if (self.quarter == q).any() else None
                            for q in range(QUARTERS)}
                rows.append({"judge": judge, "strategy": label(strategy), "seed": self.config.seed, "wv_share": wv_share,
                             "spent_share": spent_share, "disclosed_share": float(disclosed.mean()),
                             f"hr@{k}": metrics.hit_ratio_of_ranks(rank, k), f"ndcg@{k}": metrics.ndcg_of_ranks(rank, k),
                             **quarters})
                self.bar.update()
        return rows

    def _place(self, strategy):
        """Budget of a strategy, and the name of its files."""
        budget = 1.0 if strategy == NONE else self.config.wv_budget
        return budget, f"{file_label(strategy)}_{budget:g}"

    def mask(self, strategy):
        """(n,) bool, what a strategy discloses."""
        budget, name = self._place(strategy)

        def make():
            decision = self.decide(strategy, budget)
            return {"disclosed": decision.disclosed}
        return self.kept(name, self.key(strategy, budget), make)["disclosed"]

    def ranks(self, judge, strategy, disclosed):
        """(scored users,) 0-based ranks of the test items by a judge that was trained on what a strategy discloses."""
        budget, name = self._place(strategy)
        own = {} if judge in GRIDS else {"training": base_model(judge, self.config).select("model", *TRAINED)}
        key = self.key(strategy, budget, judge=judge, setting=self.settings[judge], package=version_of(judge), **own)
        return self.kept(f"{judge}/{name}", key, lambda: (
            {"rank": self._judge(judge, self.dataset.part(disclosed))}))["rank"]

    def _judge(self, judge, part):
        dataset, config = self.dataset, self.config
        if judge in GRIDS:
            scores = fitted(judge, matrix_of(part), config.seed, self.settings[judge])
            scored = in_chunks(scores, dataset.num_users, dataset.num_items, config.eval_batch_size)
        else:
            if judge not in self.retrained:
                self.retrained[judge] = Retraining(dataset, base_model(judge, config), self.device)
            self.retrained[judge](part, config.seed)
            scored = score_all(self.retrained[judge].shown, dataset.scored, dataset.num_items, config.eval_batch_size)
        return ranks_among_untouched(dataset, dataset.test, scored)


if __name__ == "__main__":
    main(carryover, "run_carryover", __doc__, own=OWN)
