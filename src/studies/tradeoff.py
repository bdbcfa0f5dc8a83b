"""The whole trade-off between quality and unwillingness, started by scripts/run_tradeoff.sh.

Every strategy (see strategies.py) decides at every budget and seed; NCF is trained from scratch on what it discloses, with
the training options given, and scored on the test items. The same seed gives all strategies the same initial weights,
candidates and, if it is drawn, unwillingness. Each run is kept in a file of its own, so that a stopped study goes on, and
more strategies, budgets and seeds add to it.

Rewards are -loss - lambda * wv at the price that IFRQE finds for the budget, so that all strategies at a budget are compared
at one price.
"""
import json
import logging
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd

from .. import metrics
from ..common.errors import InputError
from ..common.figures import drawn
from ..common.files import atomic_write, digest, write_text
from ..common.plugins import check_labels, file_label, is_file, label, plugin_files
from ..common.seeds import seed_settings
from ..common.stage import Stage, main
from ..common.terminal import RESULT, markdown_text, progress
from ..common.variant import Variant, ratings_path
from ..config import EVALUATED, TRAINED
from ..constants import (
    RATINGS_FILE,
    STUDY_SEEDS,
    TIMESTAMP,
    TRADEOFF_FILE,
)
from ..dataset import read_ratings_column, timestamp_seconds
from ..device_adapter import set_device
from ..game.anchors import load_models, trained_models
from ..game.strategies import (
    IFRQE,
    NONE,
    NONE_VALIDATION,
    STRATEGIES,
    Kept,
    Strategies,
    influence_groups,
    load_problem,
    needs_model,
    with_validation,
)
from ..sources.unwillingness import data_files
from ..training.checkpoint import read_checkpoint
from .figures import tradeoff_plot, users_plot
from .retraining import Retraining

logger = logging.getLogger("ifrqe")


LOSS, POS_LOSS, RANK = range(3)  # what is kept of a run, each (num_users,), of the test items
GROUPS = 4  # of users
RUNS_FOLDER = "tradeoff"
TABLE, PLOT, USERS_PLOT = "tradeoff.md", "tradeoff.png", "tradeoff_users.png"


def tradeoff(config):
    """The study on the dataset that the settings name; writes tradeoff.csv, .md and .png, and tradeoff_users.png.

    Its record of settings lets the report of eval.py tell which data the study belongs to.

    Raises:
        InputError: an unknown strategy, or the dataset, a checkpoint or unwillingness is missing or unfit.
    """
    if config.holdout < 2:
        raise InputError(f"--holdout {config.holdout}: leaves no validation item for the influences; use 2 here")
    strategies = [name.strip() for name in config.tradeoff_strategies.split(",")]
    if unknown := [name for name in strategies if name not in STRATEGIES and not is_file(name)]:
        raise InputError(f"--tradeoff_strategies {config.tradeoff_strategies}: there is no strategy {unknown[0]!r}; "
                         f"name some of {','.join(STRATEGIES)},FILE.py")
    check_labels(strategies, "tradeoff_strategies", STRATEGIES)
    if NONE not in strategies:
        strategies.insert(0, NONE)  # what all others are compared with
    if not config.tradeoff_budgets:
        raise InputError("--tradeoff_budgets '': needs shares of total_wv such as 0.3,0.6")
    budgets = sorted(set(config.tradeoff_budgets))
    seeds = config.seeds or [config.seed + k for k in range(STUDY_SEEDS)]
    device = set_device(config)
    output = Path(config.output_path)
    total = sum(1 if name in (NONE, NONE_VALIDATION) else len(budgets) for name in strategies) * len(seeds)
    rows, users = [], []
    with progress(total, "trade-off", "run") as bar:
        for seed in seeds:
            of_seed = settings_of_seed(config, seed, any(map(needs_model, strategies)))
            # what its trainings report is not what train.py has written under output_path
            runs = SeedRuns(of_seed.replace(output_path=str(output / RUNS_FOLDER / f"seed_{seed}")), output / RUNS_FOLDER,
                            device, strategies, bar)
            rows += runs.rows(strategies, budgets)
            users.append(runs.of_users(strategies, min(budgets, key=lambda b: abs(b - config.wv_budget))))
    table = pd.DataFrame(rows)
    with atomic_write(output / TRADEOFF_FILE) as temporary:
        table.to_csv(temporary, index=False)
    shown = [metric for metric in table if metric.startswith(("hr@", "ndcg@"))]
    users = pd.concat(users)
    text = f"{markdown(table, shown)}\n\n{users_markdown(users)}\n"
    write_text(output / TABLE, text)
    title = f"{config.dataset}: {len(seeds)} seed{'s' * (len(seeds) > 1)}"
    Stage("tradeoff", config, (*_groups(config), "decision", "tradeoff", "repetition"), data_files(config),
          [output / name for name in (TRADEOFF_FILE, TABLE)], device).finish()
    drawn(tradeoff_plot, output / PLOT, table, [*shown, "loss", "reward"], title)
    drawn(_plot_users, output / USERS_PLOT, users, title)
    logger.log(RESULT, "%s", text)
    logger.info("written to %s, %s, %s and %s", *(output / name for name in (TRADEOFF_FILE, TABLE, PLOT, USERS_PLOT)))


def settings_of_seed(config, seed, needed):
    """The settings of the runs of a seed, whose model must be trained as those of all other seeds are.

    The run's NCF.ckpt serves its own seed if it was trained with just these options; else the study trains a model of its
    own for it, in a folder seed_N like those of the other seeds.

    Args:
        needed: whether any strategy looks at a model.
    """
    config = config.replace(other_model=False)
    if seed != config.seed:
        return seed_settings(config, seed)
    path = Variant(config).checkpoint
    if needed and path.exists():
        info = read_checkpoint(path, "train anew with train.py --overwrite")[1]
        trained = {**info.get("settings", {}), "dataset": info.get("dataset")}
        other = [f"{key} {trained.get(key)}" for key, value in {
            "dataset": config.dataset, **config.select("split", "model", *TRAINED)}.items() if trained.get(key) != value]
        if not other and info.get("ratings_sha256") != digest(ratings_path(config)):
            other = [f"another {RATINGS_FILE}"]
        if other := ", ".join(other):
            logger.warning("%s: was trained with other options than the study (%s), which goes by a model of its own for "
                           "seed %d", path, other, seed)
            return seed_settings(config, seed)
    return config


def _groups(config):
    """Groups of options that the runs of a study depend on, beside strategy and budget."""
    return (*dict.fromkeys(("split", "model", *TRAINED, *EVALUATED, *influence_groups(config), "unwillingness", "game")),)


class SeedRuns:
    """The runs of one seed.

    Args:
        config: the settings with this seed; its model is trained in the folders that they name, if it is not there.
        folder: where runs are kept.
        device: name of the device in use.
        strategies: names, for which models are trained if any needs one.
        bar: progress bar, moved on by each run.
    """

    def __init__(self, config, folder, device, strategies, bar):
        self.config, self.folder, self.bar = config, folder, bar
        checkpoints = trained_models(config, "give the study the options of that training, remove it, or name another "
                                     "--checkpoint_path") if any(map(needs_model, strategies)) else []
        stage = Stage("tradeoff", config, _groups(config),
                      data_files(config) + plugin_files(config.solver) + checkpoints, [], device)
        self.depends = stage.depends
        problem = load_problem(config)
        self.dataset, self.unwillingness = problem.dataset, problem.unwillingness
        self.strategies = Strategies(problem, load_models(checkpoints, self.dataset, config), config, device,
                                     Kept(self.folder / f"seed_{config.seed}", stage.basis))
        self.retraining = Retraining(self.dataset, config, device)
        self.found = {}  # strategy, budget: what `run` returned
        self.trained = {}  # what is trained on: results of users

    def rows(self, strategies, budgets):
        """A dict for each strategy and budget."""
        for strategy in strategies:
            for budget in budgets:
                self.run(strategy, budget)
        self.strategies.forget()
        rows = []
        for strategy in strategies:
            for budget in budgets:
                kept, _, values = self.run(strategy, budget)
                weight = self.run(IFRQE, budget)[1] if IFRQE in strategies else None
                wv, total = (metrics.willingness_violation(d, self.unwillingness, self.dataset.num_users)
                             for d in (kept, np.ones(len(kept))))
                k = self.config.top_k
                loss = float(values[LOSS].mean())
                rows.append({
                    "strategy": label(strategy), "budget": budget, "seed": self.config.seed,
                    f"hr@{k}": metrics.hit_ratio_of_ranks(values[RANK], k),
                    f"ndcg@{k}": metrics.ndcg_of_ranks(values[RANK], k), "loss": loss,
                    "pos_loss": float(values[POS_LOSS].mean()), "wv": wv, "wv_share": wv / total if total else 0.0,
                    "disclosed_share": float(kept.mean()), "willingness_weight": weight,
                    "reward": None if weight is None else -loss - weight * wv})
        return rows

    def run(self, strategy, budget):
        """What a strategy discloses at a budget, the price at which the game was played, and (3, num_users) results."""
        budget = 1.0 if strategy in (NONE, NONE_VALIDATION) else budget
        if (strategy, budget) not in self.found:
            path = self.folder / f"{file_label(strategy)}_{budget:g}_{self.config.seed}.npz"
            files = {str(file): digest(file) for file in plugin_files(strategy)}
            key = json.dumps({**self.depends, "strategy": strategy, "budget": budget, **files}, sort_keys=True)
            result = read_run(path, key, self.config.overwrite)
            if result is None:
                decision = self.strategies(strategy, budget)
                if not decision.disclosed.any():
                    raise InputError(f"--tradeoff_budgets {budget}: is too small for {strategy} to disclose anything; "
                                     "raise it")
                result = decision.disclosed, decision.weight, self._train(strategy, decision.disclosed)
                write_run(path, key, *result)
            self.found[strategy, budget] = result
            self.bar.update()
        return self.found[strategy, budget]

    def _train(self, strategy, disclosed):
        """Results of a training; the same selections, as of all baselines at the full budget, are trained on once."""
        name = strategy == NONE_VALIDATION, disclosed.tobytes()
        if name not in self.trained:
            config = self.config
            part = self.dataset.part(disclosed)
            if strategy == NONE_VALIDATION:
                part = with_validation(self.dataset, disclosed, config)
            scores, counts = self.retraining(part, config.seed)(self.retraining.test), self.retraining.counts
            self.trained[name] = np.stack([metrics.mean_loss(scores, counts), metrics.cross_entropy(scores)[:, 0],
                                           metrics.ranks(scores, counts)])
        return self.trained[name]

    def of_users(self, strategies, budget):
        """DataFrame with a row per user and strategy: how they fare at a budget, and what kind of user they are."""
        dataset, everything = self.dataset, self.run(NONE, budget)[2]
        kind = {"history": np.bincount(dataset.user, minlength=dataset.num_users),
                "unwillingness": np.bincount(dataset.user, self.unwillingness, dataset.num_users)}
        if (seconds := timestamp_seconds(self.config)) is not None:
            held_out = read_ratings_column(self.config, TIMESTAMP)[dataset.held_out]
            kind["gap"] = (held_out[:, -1] - held_out[:, -2]) * (seconds / _MINUTE)
        tables = []
        for strategy in strategies:
            if strategy != NONE:
                values = self.run(strategy, budget)[2]
                hit, before = (v[RANK] < self.config.top_k for v in (values, everything))
                tables.append(pd.DataFrame({
                    "strategy": label(strategy), "budget": budget, "user": np.arange(dataset.num_users), **kind,
                    "loss_change": values[LOSS] - everything[LOSS], "hit_change": hit.astype(float) - before}))
        return pd.concat(tables) if tables else pd.DataFrame()


def write_run(path, key, disclosed, weight, values):
    """Keeps a run: (n,) bool, willingness weight or None, (3, num_users) results."""
    with atomic_write(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, key=key, disclosed=np.packbits(disclosed), number=len(disclosed),
                 weight=np.nan if weight is None else weight, values=values)


def read_run(path, key, overwrite):
    """What write_run kept under the same key, or None."""
    if overwrite or not path.is_file():
        return None
    try:
        with np.load(path) as run:
            if str(run["key"]) != key:
                return None
            disclosed = np.unpackbits(run["disclosed"], count=int(run["number"])).astype(bool)
            return disclosed, None if np.isnan(run["weight"]) else float(run["weight"]), run["values"]
    except (ValueError, KeyError, OSError, zipfile.BadZipFile):
        return None  # damaged: it is done again


def mean_and_std(values, digits=4):
    """"mean ± sample standard deviation" of some numbers; a single one is shown alone."""
    values = [v for v in values if v is not None and np.isfinite(v)]
    if not values:
        return ""
    spread = f" ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{np.mean(values):.{digits}f}{spread}"


def markdown(table, shown):
    """The runs as a Markdown table: for each budget the strategies, with mean and standard deviation over seeds."""
    lines = ["| budget | strategy | wv | disclosed | " + " | ".join([*map(str.upper, shown), "loss", "reward"]) + " |",
             "|---" * (6 + len(shown)) + "|"]
    for (budget, strategy), rows in table.groupby(["budget", "strategy"], sort=False):
        cells = [f"{100 * budget:g}%", markdown_text(strategy), f"{100 * rows.wv_share.mean():.0f}%",
                 f"{100 * rows.disclosed_share.mean():.0f}%",
                 *(mean_and_std(rows[name]) for name in [*shown, "loss", "reward"])]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([lines[0], lines[1], *sorted(lines[2:], key=lambda line: float(line.split("%")[0].strip("| ")))])


GROUPED = {"history": "history length", "unwillingness": "total unwillingness",
           "gap": "minutes from validation to test item"}
_MINUTE = 60


def _known(users):
    """The keys of GROUPED that are known of the users: how long they waited is not without times."""
    return [kind for kind in GROUPED if kind in users]


def grouped(users, kind):
    """Users of one strategy in quarters by a number that describes them.

    Args:
        users: rows of SeedRuns.of_users.
        kind: key of GROUPED.

    Returns:
        DataFrame indexed by the range of the number: users, loss_change, worse (share whose loss rose), hit_change; the
        changes of a user are the mean over seeds before users are compared.
    """
    each = users.groupby("user")[[*_known(users), "loss_change", "hit_change"]].mean()
    number = each[kind]
    quarter = pd.qcut(number, GROUPS, duplicates="drop") if number.nunique() > 1 else pd.Series("all", each.index)
    rows = each.assign(worse=each.loss_change > 0).groupby(quarter, observed=True)
    result = rows[["loss_change", "worse", "hit_change"]].mean()
    result.insert(0, "users", rows.size())
    if number.nunique() > 1:
        result.index = [f"{number[quarter == i].min():.3g} to {number[quarter == i].max():.3g}" for i in result.index]
    return result


def users_markdown(users):
    """Who pays and who gains, against everything disclosed, as Markdown."""
    if users.empty:
        return ""
    lines = [f"Users at {100 * users.budget.iloc[0]:g}% of the unwillingness, against everything disclosed:", "",
             "| strategy | users | number | loss change | worse off | HR change |", "|---|---|---|---|---|---|"]
    for strategy, rows in users.groupby("strategy", sort=False):
        each = rows.groupby("user")[["loss_change", "hit_change"]].mean()
        parts = {"all": pd.DataFrame({"users": [len(each)], "loss_change": [each.loss_change.mean()],
                                      "worse": [(each.loss_change > 0).mean()], "hit_change": [each.hit_change.mean()]},
                                     index=[""])}
        parts.update({GROUPED[kind]: grouped(rows, kind) for kind in _known(rows)})
        for title, part in parts.items():
            for name, row in part.iterrows():
                lines.append(f"| {markdown_text(strategy)} | {f'{title}: {name}' if name else title} | {row.users:.0f} | "
                             f"{row.loss_change:+.4f} | {100 * row.worse:.0f}% | {row.hit_change:+.3f} |")
    if "gap" not in users:
        lines += ["", "The data have no times, so how long users waited for the test item is not known."]
    return "\n".join(lines)


def _plot_users(path, users, title):
    strategies = [name for name in users.strategy.unique() if name != NONE_VALIDATION] if len(users) else []
    if not strategies:
        return
    rows = {name: users[users.strategy == name] for name in strategies}
    changes = {name: part.groupby("user").loss_change.mean().to_numpy() for name, part in rows.items()}
    groups = [(GROUPED[kind], label, {name: factor * grouped(part, kind)[column] for name, part in rows.items()})
              for kind, column, factor, label in (("history", "worse", 100, "worse off (%)"),
                                                  ("unwillingness", "worse", 100, "worse off (%)"),
                                                  ("gap", "hit_change", 1, "change of HR")) if kind in users]
    users_plot(path, changes, groups, f"{title}, {100 * users.budget.iloc[0]:g}% of the unwillingness, against everything "
               "disclosed")


if __name__ == "__main__":
    main(tradeoff, "run_tradeoff", __doc__)
