"""Pictures of the studies."""
import numpy as np

from src.common.figures import BLUE, GREY, ORANGE, as_written, histograms, picture, sample
from src.game.strategies import NONE

from .leakage import PARTS, series_of
from .runs import NONE_VALIDATION
from .tables import KINDS, grouped

# by kind of users: column of `grouped`, factor, label
USERS_PANELS = {"history": ("worse", 100, "worse off (%)"), "unwillingness": ("worse", 100, "worse off (%)"),
                "gap": ("hit_change", 1, "change of HR")}
# by strategy: color, marker, line style
STYLES = {"none": (GREY, None, "--"), "none+validation": (GREY, None, ":"), "random": ("#a88500", "v", "-"),
          "threshold": ("#4e9a06", "s", "-"), "recent": ("#9a5fc0", "^", "-"), "similarity": ("#dd3c3c", "D", "-"),
          "ifrqe": (BLUE, "o", "-"), "ifrqe++": (ORANGE, "P", "-"), "ask-first": ("#d63384", "*", "-")}
OTHER_STYLE = "#1f9e9e", "X", "-"
WHOLE = (NONE, NONE_VALIDATION)  # they disclose everything at every budget


def fidelity_plot(path, predicted, measured, scores, ceiling, title):
    """PNG of predicted against measured (masks, num_users) losses, standardised per user, and of the users' scores.

    `scores`: by solver (users,) rank correlations; `ceiling`: what `ceilings` says.
    """
    with picture(path, title, 2) as (left, right):
        x, y = (((a - a.mean(0)) / np.maximum(a.std(0), 1e-30)).ravel() for a in (predicted, measured))
        shown = sample(len(x))
        left.scatter(x[shown], y[shown], s=2, alpha=0.15, color=BLUE, linewidths=0)
        edges = np.quantile(x, np.linspace(0, 1, 11))
        bins = np.clip(np.searchsorted(edges, x, side="right") - 1, 0, 9)
        count = np.maximum(np.bincount(bins, minlength=10), 1)
        left.plot(np.bincount(bins, x, 10) / count, np.bincount(bins, y, 10) / count, color=ORANGE, marker="o",
                  markersize=3, label="mean of each tenth")
        left.set(xlim=(-3, 3), ylim=(-3, 3), ylabel="loss after retraining, standardised",
                 xlabel=f"predicted loss ({as_written(next(iter(scores)))}), standardised per user")
        left.legend(frameon=False, loc="upper left")

        histograms(right, {f"{as_written(name)}: mean {values.mean():.3f}": values for name, values in scores.items()},
                   np.linspace(-1, 1, 41))
        best = ceiling["ceiling_own"]
        if best is not None:
            right.axvline(best, color=GREY, linestyle=":", label=f"ceiling, about {best:.2f}")
        right.set(xlabel="rank correlation over the retrainings", ylabel="users")
        right.legend(frameon=False, loc="upper left", fontsize="small")


def scaling_plot(path, rows, title):
    """PNG of seconds and memory by number of interactions; `rows` are what `measure` says."""
    millions = [row["num_interactions"] / 1e6 for row in rows]
    with picture(path, title, 2) as panels:
        for axes, key, label, color in zip(panels, ("seconds", "extra_mb"), ("seconds", "MB beyond data and model"),
                                           (BLUE, ORANGE)):
            values = [row[key] for row in rows]
            axes.plot(millions, values, color=color, marker="o")
            axes.set(xlabel="million interactions", ylabel=label, ylim=(0, 1.15 * max(values) or 1))
            axes.set_xlim(left=0)


def tradeoff_plot(path, table, shown, title):
    """PNG of the metrics `shown` against the violated unwillingness, with standard deviations over seeds."""
    with picture(path, title, len(shown)) as panels:
        for axes, metric in zip(panels, shown):
            for strategy, rows in table.groupby("strategy", sort=False):
                _draw_runs(axes, strategy, rows, metric)
            played = table.loc[~table.strategy.isin(WHOLE), metric].dropna()
            if metric == "reward" and len(played):  # at a high price, everything disclosed lies far below the others
                margin = 0.1 * np.ptp(played) or 0.1
                axes.set_ylim(played.min() - margin, played.max() + margin)
            axes.set_xlabel("budget (% of total_wv)" if metric == "reward" else "violated unwillingness (% of total_wv)")
            axes.set_ylabel({"loss": "loss (nats)", "reward": "reward"}.get(metric, metric.upper()))
        panels[0].legend(frameon=False, fontsize="small")


def _draw_runs(axes, strategy, rows, metric):
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


def users_plot(path, users, title):
    """PNG of who pays and who gains, against everything disclosed; `users` are rows of SeedRuns.of_users."""
    if users.empty:
        return
    parts = {name: part for name, part in users.groupby("strategy", sort=False) if name != NONE_VALIDATION}
    styles = {name: {"color": STYLES.get(name, OTHER_STYLE)[0], "label": as_written(name)} for name in parts}
    panels = {kind: panel for kind, panel in USERS_PANELS.items() if kind in users}
    if not parts:
        return
    title = f"{title}, {100 * users.budget.iloc[0]:g}% of the unwillingness, against everything disclosed"
    with picture(path, title, 1 + len(panels)) as (first, *others):
        changes = {name: part.groupby("user").loss_change.mean() for name, part in parts.items()}
        for strategy, values in changes.items():
            first.plot(np.sort(values), np.linspace(0, 100, len(values)), **styles[strategy])
        limit = np.quantile(np.abs(np.concatenate(list(changes.values()))), 0.98) or 1
        first.set(xlim=(-limit, limit), xlabel="change of a user's loss (nats)", ylabel="users (%)")
        first.axvline(0, color=GREY, linestyle=":", linewidth=1)
        first.legend(frameon=False, fontsize="small")
        width = 0.8 / len(parts)
        for axes, (kind, (column, factor, ylabel)) in zip(others, panels.items()):
            for k, (strategy, part) in enumerate(parts.items()):
                values = factor * grouped(part, kind)[column]
                place = np.arange(len(values)) + (k - (len(parts) - 1) / 2) * width
                axes.bar(place, values, width, **styles[strategy])
            axes.set_xticks(range(len(values)), values.index, fontsize="small")
            axes.axhline(0, color=GREY, linewidth=0.8)
            axes.set(xlabel=KINDS[kind], ylabel=ylabel)


def audit_plot(path, record):
    """PNG of the AUCs of a leakage audit with their intervals, a panel for each part; `record` is what audit.json says.

    Strategies stand side by side, those without any AUC are left out; .5, which is chance, is marked.
    """
    parts = {PARTS[part][0]: series for part in PARTS if (series := series_of(record, part))}
    title = f"{record['dataset']}: what the models still tell at {100 * record['wv_budget']:g}% of the unwillingness"
    with picture(path, title, len(parts)) as panels:
        for axes, (name, series) in zip(panels, parts.items()):
            _draw_aucs(axes, series, list(record["strategies"]), name)


def _draw_aucs(axes, series, strategies, title):
    strategies = [strategy for strategy in strategies if any(strategy in found for found in series.values())]
    for k, ((label, found), color, marker) in enumerate(zip(series.items(), (BLUE, ORANGE, GREY, "#4e9a06"), "osDv")):
        place = [strategies.index(strategy) + 0.16 * (k - (len(series) - 1) / 2) for strategy in found]
        value = np.array([one["auc"] for one in found.values()])
        ends = np.array([one["interval"] or (one["auc"], one["auc"]) for one in found.values()])
        spread = np.maximum([value - ends[:, 0], ends[:, 1] - value], 0)
        axes.errorbar(place, value, spread, color=color, marker=marker, linestyle="none", markersize=5, capsize=2,
                      linewidth=1, label=as_written(label))
    axes.axhline(0.5, color=GREY, linestyle=":", linewidth=1)
    axes.set_xticks(range(len(strategies)), list(map(as_written, strategies)), fontsize="small")
    axes.set(xlim=(-0.6, len(strategies) - 0.4), ylabel="AUC")
    axes.set_title(title, fontsize="medium")
    axes.margins(y=0.12)
    if len(series) > 1:  # below the panel, where it hides nothing
        axes.legend(frameon=False, fontsize="x-small", ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.1))


def carryover_plot(path, table, metric, title):
    """PNG of one metric of JudgedSeed.rows by strategy, a panel for each judge, with standard deviations over seeds."""
    judges = list(table.groupby("judge", sort=False))
    with picture(path, title, len(judges)) as panels:
        for axes, (judge, rows) in zip(panels, judges):
            runs = rows.groupby("strategy", sort=False)[metric]
            value, spread = runs.mean(), runs.std().fillna(0)
            colors = [STYLES.get(name, OTHER_STYLE)[0] for name in value.index]
            axes.bar(range(len(value)), value, 0.7, yerr=spread, capsize=3, color=colors)
            if NONE in value.index:  # what all others are compared with
                axes.axhline(value[NONE], color=GREY, linestyle="--", linewidth=1)
            axes.set_xticks(range(len(value)), list(map(as_written, value.index)), fontsize="small")
            axes.set(ylabel=metric.upper(), ylim=(0, 1.1 * (value + spread).max() or 1))
            axes.set_title(as_written(judge), fontsize="medium")


def paper_plot(path, table, metric, chance, title):
    """PNG of a metric of paper.csv, a share, by violated unwillingness, a panel for each model; chance is a line."""
    models = list(table.groupby("model", sort=False))
    with picture(path, title, len(models)) as panels:
        for axes, (model, part) in zip(panels, models):
            for strategy, rows in part.groupby("strategy", sort=False):
                color, marker, style = STYLES.get(strategy, OTHER_STYLE)
                found = 100 * rows.groupby("point")[["wv_share", metric]].agg(["mean", "std"]).fillna(0)
                found = found.sort_values(("wv_share", "mean"))
                axes.errorbar(found["wv_share"]["mean"], found[metric]["mean"], found[metric]["std"], color=color, capsize=2,
                              marker=marker or "X", linestyle=style, linewidth=1, markersize=5, label=as_written(strategy))
            axes.axhline(100 * chance, color=GREY, linestyle=":", label="chance")
            axes.set(xlabel="violated unwillingness (% of total_wv)", ylabel=f"{metric.upper()} (%)")
            axes.set_title(as_written(model), fontsize="medium")
        panels[0].legend(frameon=False, fontsize="small")


def withdrawal_plot(path, table, title):
    """PNG of the membership AUC of withdrawn pairs before, after, and after a training without, by kind of request."""
    with picture(path, title, 1) as (panel,):
        names = list(dict.fromkeys(table.request))
        for k, (name, label, colour) in enumerate((("original", "before", GREY), ("withdrawn", "withdrawn", BLUE),
                                                   ("retrained", "trained anew", ORANGE))):
            values = [table[table.request == request][f"auc_{name}"] for request in names]
            panel.bar(np.arange(len(names)) + 0.27 * (k - 1), [v.mean() for v in values], 0.25, label=label, color=colour,
                      yerr=[v.std() if len(v) > 1 else 0 for v in values])
        panel.set(ylim=(0.5, 1.05), ylabel="membership AUC of what was withdrawn")
        panel.set_xticks(np.arange(len(names)), [name.replace(", ", ",\n").replace(" of ", "\nof ") for name in names])
        panel.legend(frameon=False, loc="upper center", ncols=3)
