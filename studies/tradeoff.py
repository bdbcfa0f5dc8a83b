"""The whole trade-off between quality and unwillingness, started by scripts/run_tradeoff.sh.

Every strategy decides at every budget and seed; NCF is trained from scratch on what it discloses and scored on the test
items (see runs.py). Each run is kept in a file of its own, so that a stopped study goes on, and more strategies, budgets
and seeds add to it. Rewards are -loss - lambda * wv at the price that IFRQE finds for the budget, one for all strategies.
See docs/maths.md, section 5.
"""
from pathlib import Path

import pandas as pd

from src.common.errors import InputError
from src.common.figures import drawn
from src.common.plugins import plugin_files
from src.common.stage import Stage, main
from src.common.terminal import progress
from src.common.wording import counted
from src.consent.unwillingness import data_files
from src.constants import STUDY_SEEDS, TRADEOFF_FILE, TRADEOFF_PLOT
from src.device_adapter import set_device
from src.evaluation.compare import rankings
from src.game.strategies import NONE, STRATEGIES, find

from .figures import tradeoff_plot, users_plot
from .retraining import names_of, needs_validation, show, write_tables
from .runs import NONE_VALIDATION, SeedRuns, decides, groups_of_runs, settings_of_seed
from .tables import markdown, users_markdown

OWN = {"tradeoff_strategies": ("str", "none,none+validation,random,threshold,recent,similarity,ifrqe,ifrqe++,ask-first",
                               "strategies, separated by commas"),
       "tradeoff_budgets": ("floats (0, 1]", [0.05, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 1.0], "shares of total_wv")}
TABLE, USERS_PLOT = "tradeoff.md", "tradeoff_users.png"


def tradeoff(config):
    """The study on the dataset that the settings name; writes tradeoff.csv, .md and .png, and tradeoff_users.png.

    Its record of settings lets the report of eval.py tell which data the study belongs to.

    Raises:
        InputError: an unknown strategy, or the dataset, a checkpoint or unwillingness is missing or unfit.
    """
    needs_validation(config)
    strategies = names_of(config, "tradeoff_strategies", "strategy", [NONE_VALIDATION, *STRATEGIES])
    if NONE not in strategies:
        strategies.insert(0, NONE)  # what all others are compared with
    if not config.tradeoff_budgets:
        raise InputError("--tradeoff_budgets '': needs shares of total_wv such as 0.3,0.6")
    budgets = sorted(set(config.tradeoff_budgets))
    seeds = config.seeds or [config.seed + k for k in range(STUDY_SEEDS)]
    device = set_device(config)
    output = Path(config.output_path)
    folder = output / "tradeoff"  # of the runs
    whole = sum(decides(name) == NONE for name in strategies)  # they do the same at every budget
    total = (whole + (len(strategies) - whole) * len(budgets)) * len(seeds)
    needed = any(find(decides(name)).needs_model for name in strategies)
    rows, users = [], []
    with progress(total, "trade-off", "run") as bar:
        for seed in seeds:
            # what its trainings report is not what train.py has written under output_path
            of_seed = settings_of_seed(config, seed, needed).replace(output_path=str(folder / f"seed_{seed}"))
            runs = SeedRuns(of_seed, folder, device, needed, bar)
            rows += runs.rows(strategies, budgets)
            users.append(runs.of_users(strategies, min(budgets, key=lambda b: abs(b - config.wv_budget))))
    table = pd.DataFrame(rows)
    shown = rankings(table)
    users = pd.concat(users)
    text = f"{markdown(table, shown)}\n\n{users_markdown(users)}\n"
    write_tables(output, table, TRADEOFF_FILE, text, TABLE)
    title = f"{config.dataset}: {counted(len(seeds), 'seed')}"
    Stage("tradeoff", __name__, config, (*groups_of_runs(config), "decision", "repetition"),
          data_files(config) + plugin_files(config.model), [output / name for name in (TRADEOFF_FILE, TABLE)],
          device, {"own": config.own}).finish()
    drawn(tradeoff_plot, output / TRADEOFF_PLOT, table, [*shown, "loss", "reward"], title)
    drawn(users_plot, output / USERS_PLOT, users, title)
    show(text, output, TRADEOFF_FILE, TABLE, TRADEOFF_PLOT, USERS_PLOT)


if __name__ == "__main__":
    main(tradeoff, "run_tradeoff", __doc__, own=OWN)
