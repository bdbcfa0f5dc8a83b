"""The whole trade-off between quality and unwillingness, started by scripts/run_tradeoff.sh.

Every strategy decides at every budget and seed; NCF is trained from scratch on what it discloses and scored on the test
items. What is decided and trained is kept, so that a stopped study goes on, and more strategies, budgets and seeds add to
it. Rewards are -loss - lambda * wv at the price that IFRQE finds for the budget, one for all strategies. See docs/maths.md,
section 5.
"""
import numpy as np
import pandas as pd

from src.common.errors import InputError
from src.common.figures import as_written, picture
from src.common.plugins import label
from src.common.stage import main
from src.common.terminal import counted
from src.common.times import UNITS
from src.dataset import load_dataset
from src.evaluation.compare import changes_in_quarters, quarter_of
from src.game.strategies import IFRQE, NONE, STRATEGIES
from src.sources.interactions import read_interactions, time_unit

from .grid import Study, averages, names_of, needs_validation, seeds_of
from .masks import FULL, LOSS, NONE_VALIDATION, OTHER_STYLE, PERSONAL, RANK, STYLES, masks_of_seed, quality

OWN = {"tradeoff_strategies": ("str", "none,none+validation,random,threshold,recent,similarity,ifrqe,ifrqe++,ask-first",
                               "strategies, separated by commas"),
       "tradeoff_budgets": ("floats (0, 1]", [0.05, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 1.0], "shares of total_wv")}
KINDS = "history", "gap"  # by which users are told apart: training interactions, minutes from validation to test item
MINUTE = 60  # seconds
WHOLE = (NONE, NONE_VALIDATION)  # they disclose everything at every budget


def tradeoff(config):
    """The study on the dataset that the settings name; writes tradeoff.csv, .md and .png.

    Raises:
        InputError: an unknown strategy, or the dataset, a checkpoint or unwillingness is missing or unfit.
    """
    needs_validation(config)
    strategies = names_of(config, "tradeoff_strategies", "strategy", [NONE_VALIDATION, *STRATEGIES])
    if NONE not in strategies:
        strategies.insert(0, NONE)  # what all others are compared with
    if not config.tradeoff_budgets:
        raise InputError("--tradeoff_budgets '': needs shares of total_wv such as 0.3,0.6")
    budgets, seeds = sorted(set(config.tradeoff_budgets)), seeds_of(config)
    study, tables = Study("tradeoff", __name__, config), []
    cells = [(name, budget) for name in strategies for budget in ([1.0] if name in WHOLE else budgets)]
    for seed in seeds:
        masks = masks_of_seed(study, seed, strategies)
        runs = masks.decided(cells, "tradeoff_budgets")
        runs["values"] = masks.trained(runs)
        tables += [runs.assign(budget=budget) if name in WHOLE else runs[runs.budget == budget]
                   for name, runs in runs.groupby("strategy", sort=False) for budget in budgets]
    runs = pd.concat(tables, ignore_index=True)
    runs["strategy"] = runs.strategy.map(label)
    table, k = table_of(runs, config.top_k), config.top_k
    users = table_of_users(runs[runs.budget == min(budgets, key=lambda b: abs(b - config.wv_budget))], config)
    study.publish(table, markdown(table), plot, table, [f"full_hr@{k}", f"full_ndcg@{k}", f"hr@{k}", "reward"],
                  f"{config.dataset}: {counted(len(seeds), 'seed')}")
    if not users.empty:
        found = by_kind(users)
        Study("tradeoff_users", __name__, config).publish(found, users_markdown(found))


def table_of(runs, k):
    """tradeoff.csv: the rows of Masks.decided, with what the `values` of their trainings come to, as a DataFrame."""
    everything = {row.seed: row.values for row in _rows(runs) if row.strategy == NONE}
    rows = []
    for row in _rows(runs):
        found, base = row.values, everything[row.seed]
        rows.append({**quality(found[FULL], k, "full_", base[FULL]), **quality(found[RANK], k, "", base[RANK]),
                     **(quality(found[PERSONAL], k, "personal_") if len(found) > PERSONAL else {}),
                     "loss": found[LOSS].mean()})
    names = ["strategy", "budget", "seed", "wv", "wv_share", "spent_share", "disclosed_share"]
    table = runs[names].join(pd.DataFrame(rows, runs.index))
    weight = {(row.seed, row.budget): row.weight for row in runs[runs.strategy == IFRQE].itertuples()}
    table["willingness_weight"] = [weight.get(pair, np.nan) for pair in zip(runs.seed, runs.budget)]
    table["reward"] = -table.loss - table.willingness_weight * table.wv
    return table


def table_of_users(runs, config):
    """How users fare at one budget against everything disclosed, and of what kind they are: a row for each run and user.

    Without what discloses everything itself; empty if there is nothing else.
    """
    dataset = load_dataset(config)
    users = dataset.scored
    kind = {"history": dataset.history.length[users]}
    if (seconds := UNITS.get(time_unit(config))):
        whole = read_interactions(config)
        held_out = whole.time[np.argsort(whole.rows)][dataset.held_out[users]]
        kind["gap"] = (held_out[:, -1] - held_out[:, -2]) * (seconds / MINUTE)
    everything = {row.seed: row.values for row in _rows(runs) if row.strategy == NONE}
    tables = [pd.DataFrame()]
    for row in _rows(runs):
        if row.strategy != NONE:
            hit, before = (values[RANK] < config.top_k for values in (row.values, everything[row.seed]))
            tables.append(pd.DataFrame({
                "strategy": row.strategy, "budget": row.budget, "user": users, **kind,
                "loss_change": row.values[LOSS] - everything[row.seed][LOSS], "hit_change": hit.astype(float) - before}))
    return pd.concat(tables)


def _rows(runs):
    return runs[["strategy", "budget", "seed", "values"]].itertuples()


def markdown(table):
    """The runs as a Markdown table, budget by budget.

    spent: share of the unwillingness that training violated on the way to the mask.
    """
    titles = {"wv_share": "wv", "spent_share": "spent", "disclosed_share": "disclosed",
              **{name: name.upper() for name in table if "@" in name and "gain" not in name and not name.endswith("_se")},
              "loss": "loss", "reward": "reward"}
    rows = table.sort_values("budget", kind="stable").assign(budget=[f"{100 * b:g}%" for b in sorted(table.budget)])
    return averages(rows, ["budget", "strategy"], titles)


def grouped(users, kind=None):
    """Users of one strategy in quarters by a number that describes them; each user's changes are means over seeds.

    Args:
        users: rows of table_of_users.
        kind: key of KINDS; None takes all users together.

    Returns:
        See changes_in_quarters; the index says the range of the number. `surely`: share of the users whose loss rose
        beyond chance, by a paired t test over the seeds (two-sided, 95%, so that chance makes it 0.025); NaN for one seed.
    """
    runs = users.groupby("user")
    each = runs[[*([kind] if kind else ()), "loss_change", "hit_change"]].mean()
    number = pd.Series(0, each.index) if kind is None else each[kind]
    rows = changes_in_quarters(each, number)
    seeds, surely = runs.size().min(), pd.Series(np.nan, each.index)
    if seeds > 1:
        from scipy.stats import t  # takes a second to import
        error = runs.loss_change.std() / np.sqrt(seeds)
        surely = each.loss_change > t.ppf(0.975, seeds - 1) * error
    rows["surely"] = surely.groupby(quarter_of(number)).mean()
    rows.index = ["all"] if number.nunique() == 1 else [f"{row.low:.3g} to {row.high:.3g}" for row in rows.itertuples()]
    return rows


def by_kind(users):
    """tradeoff_users.csv: `grouped` of each strategy, all users and by each of KINDS that is known."""
    found = [grouped(part, kind).rename_axis("range").reset_index().assign(strategy=strategy, kind=kind or "all")
             for strategy, part in users.groupby("strategy", sort=False)
             for kind in (None, *(kind for kind in KINDS if kind in part))]
    return pd.concat(found, ignore_index=True)[["strategy", "kind", "range", "users", "loss_change", "worse", "surely",
                                                "hit_change"]]


def users_markdown(found):
    """Who pays and who gains, against everything disclosed, as Markdown."""
    titles = {"loss_change": "loss, change", "worse": "worse off", "surely": "surely", "hit_change": "HR, change"}
    return (averages(found, ["strategy", "kind", "range", "users"], titles) +
            "\n\nsurely: worse off by a paired t test over the seeds (95%); chance alone makes it 0.025.")


def plot(path, table, shown, title):
    """PNG of the metrics `shown` against the violated unwillingness, with standard deviations over seeds."""
    with picture(path, title, len(shown)) as panels:
        for axes, metric in zip(panels, shown):
            for strategy, rows in table.groupby("strategy", sort=False):
                _draw(axes, strategy, rows, metric)
            played = table.loc[~table.strategy.isin(WHOLE), metric].dropna()
            if metric == "reward" and len(played):  # at a high price, everything disclosed lies far below the others
                margin = 0.1 * np.ptp(played) or 0.1
                axes.set_ylim(played.min() - margin, played.max() + margin)
            axes.set_xlabel("budget (% of total_wv)" if metric == "reward" else "violated unwillingness (% of total_wv)")
            axes.set_ylabel({"loss": "loss (nats)", "reward": "reward"}.get(metric, metric.upper()))
        panels[0].legend(frameon=False, fontsize="small")


def _draw(axes, strategy, rows, metric):
    color, marker, style = STYLES.get(strategy, OTHER_STYLE)
    found = rows.dropna(subset=[metric]).groupby("budget")[["wv_share", metric]].agg(["mean", "std"]).fillna(0)
    if found.empty:
        return
    value, spread = found[metric]["mean"], found[metric]["std"]
    # the price that a reward goes by is that of the budget; who discloses everything does so at every budget
    place = 100 * (found.index if metric == "reward" or strategy in WHOLE else found["wv_share"]["mean"])
    if strategy in WHOLE:
        axes.fill_between(place, value - spread, value + spread, color=color, alpha=0.15, linewidth=0)
        axes.plot(place, value, style, color=color, label=as_written(strategy))
    else:
        axes.errorbar(place, value, spread, color=color, marker=marker, linestyle=style, markersize=4, capsize=2,
                      linewidth=1, label=as_written(strategy))


if __name__ == "__main__":
    main(tradeoff, "run_tradeoff", __doc__, own=OWN)
