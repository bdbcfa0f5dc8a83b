"""Pictures: what all have in common, learning curves, what the mask decided, and a panel of the trade-off."""
import logging
import os

import numpy as np

from ..metrics import disclosed_by_unwillingness
from .files import atomic_write
from .terminal import escaped

logger = logging.getLogger("ifrqe")


POINTS = 20_000  # of a scatter: more make the file large and the picture no clearer
BLUE, ORANGE, GREY = "#3b7dd8", "#d2691e", "#7d7f7c"  # to be told from white and from black alike


def as_written(name):
    """A name as matplotlib shows it as it is written: without formulas between $, and with an entry in the legend."""
    name = " ".join(escaped(name).split())
    name = name if len(name) <= 40 else name[:37] + "..."
    return " " * name.startswith("_") + name.replace("$", r"\$")


def drawn(draw, path, *arguments):
    """Draws a picture; one that cannot be drawn is a warning, since no picture is worth the work before it."""
    try:
        draw(path, *arguments)
    except Exception as e:
        logger.warning("%s: this picture could not be drawn (%s: %s)", path, type(e).__name__, " ".join(str(e).split()))


def panels_of(columns, rows=1):
    return new_figure(5 * columns, 3.6 * rows, rows, columns)


def new_figure(width, height, rows=1, columns=1):
    """A matplotlib Figure of so many inches, and the list of its axes, row by row."""
    logging.getLogger("matplotlib").addHandler(logging.NullHandler())  # its word on fonts and caches is not for the screen
    backend = os.environ.pop("MPLBACKEND", None)  # a notebook's, or one that is not there: a picture in a file needs none
    try:
        from matplotlib.figure import Figure  # without pyplot there is no display to set up and none to close
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, [figure.add_subplot(rows, columns, k + 1) for k in range(rows * columns)]


def save(figure, path):
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=100)


def learning_curve(path, history, metric, title, best_epoch, anchor_epoch):
    """Training loss, cross-entropy of the validation item and the validation metric by epoch.

    Args:
        path: of the PNG.
        history: list of dicts with epoch and loss, and pos_loss and `metric` if there are validation items.
        metric: key of the ranking metric.
        title: of the picture.
        best_epoch, anchor_epoch: marked in it.
    """
    validated = metric in history[0]
    figure, panels = panels_of(2 if validated else 1)
    left, right = panels[0], panels[-1]
    epochs = [record["epoch"] for record in history]
    left.plot(epochs, [record["loss"] for record in history], color=GREY, label="training samples")
    left.set_ylabel("cross-entropy (nats)")
    if validated:
        left.plot(epochs, [record["pos_loss"] for record in history], color=ORANGE, label="validation items")
        left.axvline(anchor_epoch, color=ORANGE, linestyle=":", label=f"anchor: epoch {anchor_epoch}")
        right.plot(epochs, [record[metric] for record in history], color=BLUE, label="validation items")
        right.axvline(best_epoch, color=BLUE, linestyle=":", label=f"best: epoch {best_epoch}")
        right.set_ylabel(metric.upper())
    for axes in panels:
        axes.set_xlabel("epoch")
        axes.legend(frameon=False)
    figure.suptitle(title)
    save(figure, path)


def disclosure_plot(path, decisions, title):
    """The decisions: each interaction by unwillingness and influence, and the share disclosed by unwillingness.

    Args:
        path: of the PNG.
        decisions: Decisions; where a game was played, the line expected influence = lambda * unwillingness parts them.
        title: of the picture.
    """
    figure, panels = panels_of(1 if decisions.expected is None else 2)
    if decisions.expected is not None:
        _decisions(panels[0], decisions.expected, decisions.unwillingness, decisions.disclosed, decisions.weight)
    disclosed_panel(panels[-1], *disclosed_by_unwillingness(decisions.unwillingness, decisions.disclosed)[:2])
    figure.suptitle(title)
    save(figure, path)


def disclosed_panel(axes, edges, share):
    """Disclosed share by unwillingness; see metrics.disclosed_by_unwillingness."""
    width = np.diff(edges)
    axes.bar(edges[:-1] + width / 2, 100 * share, width=0.9 * width, color=BLUE)
    axes.set_ylim(0, 100)
    axes.set_xlabel("unwillingness")
    axes.set_ylabel("disclosed (%)")


def _decisions(left, influence, unwillingness, disclosed, weight):
    shown = np.linspace(0, len(influence) - 1, min(POINTS, len(influence))).astype(int)
    for chosen, color, label in ((False, GREY, "withheld"), (True, BLUE, "disclosed")):
        rows = shown[disclosed[shown] == chosen]
        left.scatter(unwillingness[rows], influence[rows], s=2, alpha=0.4, color=color, linewidths=0, label=label)
    left.plot([0, 1], [0, weight], color=ORANGE, label=f"price of unwillingness: {weight:.3g}")
    limit = np.quantile(np.abs(influence), 0.97) or 1
    left.set_ylim(-limit, limit)  # a few extreme influences would hide the rest
    left.set_xlabel("unwillingness")
    left.set_ylabel("expected influence (nats)")
    left.legend(frameon=False, markerscale=4, loc="lower right")


# by strategy: color, marker, line style
STYLES = {"none": (GREY, None, "--"), "none+validation": (GREY, None, ":"), "random": ("#a88500", "v", "-"),
          "threshold": ("#4e9a06", "s", "-"), "recent": ("#9a5fc0", "^", "-"), "similarity": ("#dd3c3c", "D", "-"),
          "ifrqe": (BLUE, "o", "-"), "ifrqe++": (ORANGE, "P", "-")}
OTHER_STYLE = ("#1f9e9e", "X", "-")
WHOLE = ("none", "none+validation")  # they disclose everything at every budget


def tradeoff_panel(axes, table, metric):
    """One metric of tradeoff_plot."""
    for strategy, rows in table.groupby("strategy", sort=False):
        color, marker, style = STYLES.get(strategy, OTHER_STYLE)
        found = rows.dropna(subset=[metric]).groupby("budget")[["wv_share", metric]].agg(["mean", "std"]).fillna(0)
        if found.empty:
            continue
        value, spread = found[metric]["mean"], found[metric]["std"]
        # the price that a reward goes by is that of the budget; who discloses everything does so at every budget
        whole = strategy in WHOLE
        by_budget = metric == "reward" or whole
        place = 100 * (found.index if by_budget else found["wv_share"]["mean"])
        if whole:
            axes.fill_between(place, value - spread, value + spread, color=color, alpha=0.15, linewidth=0)
            axes.plot(place, value, style, color=color, label=as_written(strategy))
        else:
            axes.errorbar(place, value, spread, color=color, marker=marker, linestyle=style, markersize=4, capsize=2,
                          linewidth=1, label=as_written(strategy))
    played = table.loc[~table.strategy.isin(WHOLE), metric].dropna()
    if metric == "reward" and len(played):  # at a high price, everything disclosed lies far below the others
        margin = 0.1 * np.ptp(played) or 0.1
        axes.set_ylim(played.min() - margin, played.max() + margin)
    axes.set_xlabel("budget (% of total_wv)" if metric == "reward" else "violated unwillingness (% of total_wv)")
    axes.set_ylabel(metric.upper() if "@" in metric else metric + " (nats)" * (metric == "loss"))
