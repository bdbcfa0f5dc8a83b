"""Pictures: what all have in common, learning curves, what the mask decided, and a panel of the trade-off."""
from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ..metrics import disclosed_by_unwillingness
from .files import atomic_write
from .terminal import escaped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

logger = logging.getLogger("ifrqe")

POINTS = 20_000  # of a scatter: more make the file large and the picture no clearer
BLUE, ORANGE, GREY = "#3b7dd8", "#d2691e", "#7d7f7c"  # to be told from white and from black alike


def as_written(name: str) -> str:
    """A name as matplotlib shows it as it is written: without formulas between $, and with an entry in the legend."""
    name = " ".join(escaped(name).split())
    if len(name) > 40:
        name = name[:37] + "..."
    if name.startswith("_"):
        name = " " + name
    return name.replace("$", r"\$")


def drawn(draw: Callable, path: str | Path, *arguments) -> None:
    """Draws a picture; one that cannot be drawn is a warning, since no picture is worth the work before it."""
    try:
        Path(os.path.realpath(path)).unlink(missing_ok=True)  # rather none than that of other results
        draw(path, *arguments)
    except Exception as e:
        logger.warning("%s: this picture could not be drawn (%s: %s)", path, type(e).__name__, " ".join(str(e).split()))


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1) -> Figure:
    """A matplotlib Figure of so many inches, with axes."""
    logging.getLogger("matplotlib").addHandler(logging.NullHandler())  # its word on fonts and caches is not for the screen
    backend = os.environ.pop("MPLBACKEND", None)  # a notebook's, or one that is not there: a picture in a file needs none
    try:
        from matplotlib.figure import Figure  # without pyplot there is no display to set up and none to close
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.subplots(rows, columns)
    return figure


@contextlib.contextmanager
def picture(path: str | Path, title: str, panels: int) -> Iterator[list[Axes]]:
    """Yields the axes of so many panels, two in a row; what is drawn on them is then written as PNG."""
    columns = min(panels, 2)
    rows = -(-panels // columns)
    figure = new_figure(5 * columns, 3.6 * rows, rows, columns)
    yield figure.axes
    figure.suptitle(title)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=100)


def sample(number: int) -> np.ndarray:
    """Positions of those of a number of points that a scatter shows."""
    return np.linspace(0, number - 1, min(POINTS, number)).astype(int)


def histograms(axes: Axes, series: dict[str, np.ndarray], bins: np.ndarray, percent: bool = False) -> None:
    """Up to three histograms by label, the first filled; of the numbers of values, or of their shares in percent."""
    for (label, values), color in zip(series.items(), (BLUE, ORANGE, GREY)):
        style = {"histtype": "stepfilled", "alpha": 0.75} if color == BLUE else {"histtype": "step"}
        weights = np.full(len(values), 100 / len(values)) if percent else None
        axes.hist(values, bins, weights=weights, color=color, label=label, **style)


def learning_curve(path: str | Path, history: list[dict], metric: str, title: str, best_epoch: int,
                   anchor_epoch: int) -> None:
    """PNG of a training by epoch: loss, and with validation items pos_loss and `metric`; two epochs are marked."""
    validated = metric in history[0]
    records = {key: [record[key] for record in history] for key in history[0]}
    with picture(path, title, 2 if validated else 1) as panels:
        panels[0].plot(records["epoch"], records["loss"], color=GREY, label="training samples")
        panels[0].set_ylabel("cross-entropy (nats)")
        if validated:
            for axes, key, color, label, marked in ((panels[0], "pos_loss", ORANGE, "anchor", anchor_epoch),
                                                    (panels[1], metric, BLUE, "best", best_epoch)):
                axes.plot(records["epoch"], records[key], color=color, label="validation items")
                axes.axvline(marked, color=color, linestyle=":", label=f"{label}: epoch {marked}")
            panels[1].set_ylabel(metric.upper())
        for axes in panels:
            axes.set_xlabel("epoch")
            axes.legend(frameon=False)


def disclosure_plot(path: str | Path, decisions: object, title: str) -> None:
    """PNG of Decisions: the share disclosed by unwillingness, and where a game was played each interaction."""
    played = decisions.expected is not None
    with picture(path, title, 2 if played else 1) as panels:
        if played:
            _played_panel(panels[0], decisions)
        disclosed_panel(panels[-1], *disclosed_by_unwillingness(decisions.unwillingness, decisions.disclosed)[:2])


def disclosed_panel(axes: Axes, edges: np.ndarray, share: np.ndarray) -> None:
    """Disclosed share by unwillingness; see metrics.disclosed_by_unwillingness."""
    width = np.diff(edges)
    axes.bar(edges[:-1] + width / 2, 100 * share, width=0.9 * width, color=BLUE)
    axes.set(ylim=(0, 100), xlabel="unwillingness", ylabel="disclosed (%)")


def _played_panel(axes, decisions):
    """Interactions by unwillingness and influence; the line expected influence = lambda * unwillingness parts them."""
    expected, weight = decisions.expected, decisions.weight
    shown = sample(len(expected))
    for chosen, color, label in ((False, GREY, "withheld"), (True, BLUE, "disclosed")):
        rows = shown[decisions.disclosed[shown] == chosen]
        axes.scatter(decisions.unwillingness[rows], expected[rows], s=2, alpha=0.4, color=color, linewidths=0, label=label)
    axes.plot([0, 1], [0, weight], color=ORANGE, label=f"price of unwillingness: {weight:.3g}")
    limit = np.quantile(np.abs(expected), 0.97) or 1  # a few extreme influences would hide the rest
    axes.set(ylim=(-limit, limit), xlabel="unwillingness", ylabel="expected influence (nats)")
    axes.legend(frameon=False, markerscale=4, loc="lower right")


def auc_panel(axes: Axes, series: dict[str, dict[str, dict]], strategies: list[str], title: str) -> None:
    """AUCs with their intervals, side by side for each strategy; .5, which is chance, is marked.

    Args:
        series: by label, by strategy what has an `auc` and an `interval`, (low, high) or None.
        strategies: in the order in which they are shown; those without any AUC are left out.
    """
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


# by strategy: color, marker, line style
STYLES = {"none": (GREY, None, "--"), "none+validation": (GREY, None, ":"), "random": ("#a88500", "v", "-"),
          "threshold": ("#4e9a06", "s", "-"), "recent": ("#9a5fc0", "^", "-"), "similarity": ("#dd3c3c", "D", "-"),
          "ifrqe": (BLUE, "o", "-"), "ifrqe++": (ORANGE, "P", "-"), "ask-first": ("#d63384", "*", "-")}
WHOLE = ("none", "none+validation")  # they disclose everything at every budget


def style_of(strategy: str) -> tuple[str, str | None, str]:
    """Color, marker and line style of a strategy."""
    return STYLES.get(strategy, ("#1f9e9e", "X", "-"))


def tradeoff_panel(axes: Axes, table: pd.DataFrame, metric: str) -> None:
    """One metric of the trade-off study by violated unwillingness, a curve for each strategy."""
    for strategy, rows in table.groupby("strategy", sort=False):
        color, marker, style = style_of(strategy)
        found = rows.dropna(subset=[metric]).groupby("budget")[["wv_share", metric]].agg(["mean", "std"]).fillna(0)
        if found.empty:
            continue
        value, spread = found[metric]["mean"], found[metric]["std"]
        # the price that a reward goes by is that of the budget; who discloses everything does so at every budget
        by_budget = metric == "reward" or strategy in WHOLE
        place = 100 * (found.index if by_budget else found["wv_share"]["mean"])
        if strategy in WHOLE:
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
    names = {"loss": "loss (nats)", "reward": "reward"}
    axes.set_ylabel(names.get(metric, metric.upper()))
