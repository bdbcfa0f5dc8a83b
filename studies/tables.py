"""The tables of the trade-off study (the strategies, and who pays and who gains) and of the carry-over study."""
import numpy as np
import pandas as pd

from src.common.wording import counted, markdown_table, mean_and_std
from src.evaluation.quarters import changes_in_quarters, quarter_of

KINDS = {"history": "history length", "unwillingness": "total unwillingness", "gap": "minutes from validation to test item"}


def markdown(table, shown):
    """The runs as a Markdown table: for each budget the strategies, with mean and standard deviation over seeds.

    spent: share of the unwillingness that training violated on the way to the mask. Metrics with personal rows, where
    there are any, stand beside those that are `shown`.
    """
    shown = [*shown, *(name for name in table if name.startswith("personal_"))]
    header = ["budget", "strategy", "wv", "spent", "disclosed", *map(str.upper, shown), "loss", "reward"]
    rows = []
    for _, at_budget in table.groupby("budget"):
        for strategy, runs in at_budget.groupby("strategy", sort=False):
            rows.append([f"{100 * runs.budget.iloc[0]:g}%", strategy, f"{100 * runs.wv_share.mean():.0f}%",
                         f"{100 * runs.spent_share.mean():.0f}%",
                         f"{100 * runs.disclosed_share.mean():.0f}%",
                         *(mean_and_std(runs[name]) for name in [*shown, "loss", "reward"])])
    return markdown_table(header, rows)


def grouped(users, kind=None):
    """Users of one strategy in quarters by a number that describes them; each user's changes are means over seeds.

    Args:
        users: rows of SeedRuns.of_users.
        kind: key of KINDS; None takes all users together.

    Returns:
        See changes_in_quarters; the index says the range of the number. `surely`: share of the users whose loss rose
        beyond chance, by a paired t test over the seeds (two-sided, 95%, so that chance makes it 0.025); NaN for one seed.
    """
    runs = users.groupby("user")
    each = runs[[*([kind] if kind else ()), "loss_change", "hit_change"]].mean()
    number = pd.Series(0, each.index) if kind is None else each[kind]
    rows = changes_in_quarters(each, number)
    seeds = runs.size().min()
    if seeds > 1:
        from scipy.stats import t  # takes a second to import
        error = runs.loss_change.std() / np.sqrt(seeds)
        surely = each.loss_change > t.ppf(0.975, seeds - 1) * error
    else:
        surely = pd.Series(np.nan, each.index)
    rows["surely"] = surely.groupby(quarter_of(number)).mean()
    rows.index = ["all"] if number.nunique() == 1 else [f"{row.low:.3g} to {row.high:.3g}" for row in rows.itertuples()]
    return rows


def users_markdown(users):
    """Who pays and who gains, against everything disclosed, as Markdown."""
    if users.empty:
        return ""
    rows = []
    for strategy, part in users.groupby("strategy", sort=False):
        for kind in (None, *(kind for kind in KINDS if kind in part)):
            for row in grouped(part, kind).itertuples():
                who = row.Index if kind is None else f"{KINDS[kind]}: {row.Index}"
                rows.append([strategy, who, f"{row.users}", f"{row.loss_change:+.4f}", f"{100 * row.worse:.0f}%",
                             "" if np.isnan(row.surely) else f"{100 * row.surely:.1f}%", f"{row.hit_change:+.3f}"])
    lines = [f"Users at {100 * users.budget.iloc[0]:g}% of the unwillingness, against everything disclosed:", "",
             markdown_table(["strategy", "users", "number", "loss change", "worse off", "surely", "HR change"], rows)]
    if users.groupby(["strategy", "user"]).size().min() > 1:
        lines += ["", "surely: worse off by a paired t test over the seeds (95%); chance alone makes it 2.5%."]
    if "gap" not in users:
        lines += ["", "The data have no times, so how long users waited for the test item is not known."]
    return "\n".join(lines)


def carryover_markdown(table, quarters, config, settings, skipped):
    """carryover.md: HR and NDCG by judge and strategy, HR by length of the history, and how the judges are set.

    Args:
        table: rows of JudgedSeed.rows, of all seeds.
        quarters: shortest and longest history of each quarter.
        settings: by judge what it was set to, a dict, or None.
        skipped: by judge that was left out the reason.
    """
    k, strategies = config.top_k, list(table.strategy.unique())
    lines = [f"# {config.dataset}: masks at {100 * config.wv_budget:g}% of the unwillingness, judged by others", "",
             "The test item among all items that a user has not touched; mean"
             f"{' ± standard deviation' if table.seed.nunique() > 1 else ''} over {counted(table.seed.nunique(), 'seed')}."]
    of_strategy = {name: runs for name, runs in table.groupby("strategy", sort=False)}
    shares = [[title, *(f"{100 * of_strategy[name][column].mean():.0f}%" for name in strategies)] for title, column in
              (("unwillingness disclosed", "wv_share"), ("spent on the way", "spent_share"))]
    found = {pair: runs for pair, runs in table.groupby(["judge", "strategy"], sort=False)}
    for metric in (f"hr@{k}", f"ndcg@{k}"):
        rows = [[judge, *(mean_and_std(found[judge, name][metric]) for name in strategies)] for judge in settings]
        lines += ["", markdown_table([metric.upper(), *strategies], rows + shares)]
    lines += ["", f"HR@{k} by length of the history, mean over the seeds:", ""]
    header = ["judge", "strategy", *(f"{low}" if low == high else f"{low} to {high}" for low, high in quarters)]
    rows = [[judge, name, *(f"{found[judge, name][f'q{q + 1}'].mean():.4f}" for q in range(len(quarters)))]
            for judge in settings for name in strategies]
    lines += [markdown_table(header, rows), ""]
    for judge, setting in settings.items():
        by = "training options" if judge == config.model else "recipe of its name"
        said = f"trained anew by the {by}" if setting is None else ", ".join(
            f"{key} {value:g}" for key, value in setting.items()) + " (chosen on the validation items, everything disclosed)"
        lines.append(f"- {judge}: {said}")
    return "\n".join(lines + [f"- {judge}: left out: {reason}" for judge, reason in skipped.items()]) + "\n"
