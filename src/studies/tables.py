"""The tables of the trade-off study: the strategies, and who pays and who gains."""
import pandas as pd

from ..common.wording import markdown_table, mean_and_std
from ..evaluation.quarters import changes_in_quarters

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


def known_kinds(users):
    """Those of KINDS that are known of the users: how long they waited is not without times."""
    return [kind for kind in KINDS if kind in users]


def grouped(users, kind=None):
    """Users of one strategy in quarters by a number that describes them; each user's changes are means over seeds.

    Args:
        users: rows of SeedRuns.of_users.
        kind: key of KINDS; None takes all users together.

    Returns:
        See changes_in_quarters; the index says the range of the number.
    """
    each = users.groupby("user")[[*known_kinds(users), "loss_change", "hit_change"]].mean()
    number = pd.Series(0, each.index) if kind is None else each[kind]
    rows = changes_in_quarters(each, number)
    rows.index = ["all"] if number.nunique() == 1 else [f"{row.low:.3g} to {row.high:.3g}" for row in rows.itertuples()]
    return rows


def users_markdown(users):
    """Who pays and who gains, against everything disclosed, as Markdown."""
    if users.empty:
        return ""
    rows = []
    for strategy, part in users.groupby("strategy", sort=False):
        for kind in (None, *known_kinds(part)):
            for row in grouped(part, kind).itertuples():
                who = row.Index if kind is None else f"{KINDS[kind]}: {row.Index}"
                rows.append([strategy, who, f"{row.users}", f"{row.loss_change:+.4f}", f"{100 * row.worse:.0f}%",
                             f"{row.hit_change:+.3f}"])
    lines = [f"Users at {100 * users.budget.iloc[0]:g}% of the unwillingness, against everything disclosed:", "",
             markdown_table(["strategy", "users", "number", "loss change", "worse off", "HR change"], rows)]
    if "gap" not in users:
        lines += ["", "The data have no times, so how long users waited for the test item is not known."]
    return "\n".join(lines)
