"""Pictures of the studies."""
import logging

import numpy as np

from ..common.figures import BLUE, GREY, ORANGE, OTHER_STYLE, POINTS, STYLES, as_written, panels_of, save, tradeoff_panel

logger = logging.getLogger("ifrqe")


def fidelity_plot(path, predicted, measured, scores, ceiling, title):
    """Predicted against measured losses of the retrainings, and the users' scores.

    Args:
        path: of the PNG.
        predicted, measured: (masks, num_users) losses; each user's are shown by their distance from the mean, in
            standard deviations.
        scores: dict of solver to (users,) rank correlations; the first is drawn filled.
        ceiling: dict with ceiling_own, or None there.
        title: of the picture.
    """
    figure, (left, right) = panels_of(2)
    x, y = (((a - a.mean(0)) / np.maximum(a.std(0), 1e-30)).ravel() for a in (predicted, measured))
    shown = np.linspace(0, len(x) - 1, min(POINTS, len(x))).astype(int)
    left.scatter(x[shown], y[shown], s=2, alpha=0.15, color=BLUE, linewidths=0)
    edges = np.quantile(x, np.linspace(0, 1, 11))
    bins = np.clip(np.searchsorted(edges, x, side="right") - 1, 0, 9)
    count = np.maximum(np.bincount(bins, minlength=10), 1)
    left.plot(np.bincount(bins, x, 10) / count, np.bincount(bins, y, 10) / count, color=ORANGE, marker="o", markersize=3,
              label="mean of each tenth")
    left.set_xlim(-3, 3)
    left.set_ylim(-3, 3)
    left.set_xlabel(f"predicted loss ({as_written(next(iter(scores)))}), standardised per user")
    left.set_ylabel("loss after retraining, standardised")
    left.legend(frameon=False, loc="upper left")
    bins = np.linspace(-1, 1, 41)
    for (name, values), color, style in zip(scores.items(), (BLUE, ORANGE, GREY), ("stepfilled", "step", "step")):
        right.hist(values, bins, histtype=style, color=color, alpha=0.6 if style == "stepfilled" else 1,
                   label=f"{as_written(name)}: mean {values.mean():.3f}")
    if ceiling["ceiling_own"] is not None:
        right.axvline(ceiling["ceiling_own"], color=GREY, linestyle=":",
                      label=f"ceiling, about {ceiling['ceiling_own']:.2f}")
    right.set_xlabel("rank correlation over the retrainings")
    right.set_ylabel("users")
    right.legend(frameon=False, loc="upper left", fontsize="small")
    figure.suptitle(title)
    save(figure, path)


def scaling_plot(path, rows, title):
    """Seconds and memory by number of interactions.

    Args:
        path: of the PNG.
        rows: list of dicts with num_interactions, seconds and extra_mb.
        title: of the picture.
    """
    figure, panels = panels_of(2)
    millions = [row["num_interactions"] / 1e6 for row in rows]
    for axes, key, label, color in zip(panels, ("seconds", "extra_mb"), ("seconds", "MB beyond data and model"),
                                       (BLUE, ORANGE)):
        axes.plot(millions, [row[key] for row in rows], color=color, marker="o")
        axes.set_xlim(left=0)
        axes.set_ylim(0, 1.15 * max(row[key] for row in rows) or 1)
        axes.set_xlabel("million interactions")
        axes.set_ylabel(label)
    figure.suptitle(title)
    save(figure, path)


def tradeoff_plot(path, table, shown, title):
    """Metrics against the violated unwillingness, a curve for each strategy, with standard deviations over seeds.

    Args:
        path: of the PNG.
        table: DataFrame with strategy, budget, wv_share and the metrics, a row for each run.
        shown: names of the metrics.
        title: of the picture.
    """
    figure, panels = panels_of(2, -(-len(shown) // 2))
    for axes, metric in zip(panels, shown):
        tradeoff_panel(axes, table, metric)
    panels[0].legend(frameon=False, fontsize="small")
    figure.suptitle(title)
    save(figure, path)


def users_plot(path, changes, groups, title):
    """Who pays and who gains, against everything disclosed.

    Args:
        path: of the PNG.
        changes: dict of strategy to (num_users,) changes of the users' losses.
        groups: list of (axis label, column label, dict of strategy to Series by group).
        title: of the picture.
    """
    figure, panels = panels_of(2, -(-(1 + len(groups)) // 2))
    axes = panels[0]
    for strategy, values in changes.items():
        axes.plot(np.sort(values), np.linspace(0, 100, len(values)), label=as_written(strategy),
                  color=STYLES.get(strategy, OTHER_STYLE)[0])
    limit = np.quantile(np.abs(np.concatenate(list(changes.values()))), 0.98) or 1
    axes.set_xlim(-limit, limit)
    axes.axvline(0, color=GREY, linestyle=":", linewidth=1)
    axes.set_xlabel("change of a user's loss (nats)")
    axes.set_ylabel("users (%)")
    axes.legend(frameon=False, fontsize="small")
    for axes, (kind, column, values) in zip(panels[1:], groups):
        width = 0.8 / len(values)
        for k, (strategy, series) in enumerate(values.items()):
            axes.bar(np.arange(len(series)) + (k - (len(values) - 1) / 2) * width, series, width, label=as_written(strategy),
                     color=STYLES.get(strategy, OTHER_STYLE)[0])
        axes.set_xticks(range(len(series)), series.index, fontsize="small")
        axes.axhline(0, color=GREY, linewidth=0.8)
        axes.set_xlabel(kind)
        axes.set_ylabel(column)
    figure.suptitle(title)
    save(figure, path)
