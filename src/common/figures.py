"""Pictures: what all have in common, learning curves, and what the mask decided."""
from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from ..metrics import disclosed_by_unwillingness
from .errors import InputError
from .files import atomic_write
from .share import here
from .terminal import escaped, logger

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
    if here().first:
        with spared(path, "picture"):
            draw(path, *arguments)


@contextlib.contextmanager
def spared(path: str | Path, what: str) -> Iterator[None]:
    """Makes of what fails within it, but for bad input, a warning and no file: no picture is worth the work before it."""
    try:
        yield
    except InputError:
        raise
    except Exception as e:
        with contextlib.suppress(OSError):
            Path(os.path.realpath(path)).unlink(missing_ok=True)
        logger.warning("%s: this %s could not be made (%s: %s)", path, what, type(e).__name__, " ".join(str(e).split()))
        logger.debug("traceback", exc_info=True)


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1) -> object:
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
def picture(path: str | Path, title: str, panels: int) -> Iterator[list]:
    """Yields the axes of so many panels, two in a row; what is drawn on them is then written as PNG."""
    columns = min(panels, 2)
    rows = -(-panels // columns)
    figure = new_figure(5 * columns, 3.6 * rows, rows, columns)
    for axes in figure.axes[panels:]:  # of an odd number the last has no neighbour
        axes.set_axis_off()
    yield figure.axes[:panels]
    figure.suptitle(title)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=100)


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
        if played:  # the line  expected influence = lambda * unwillingness  parts the interactions
            axes, expected, weight = panels[0], decisions.expected, decisions.weight
            shown = np.linspace(0, len(expected) - 1, min(POINTS, len(expected))).astype(int)
            for chosen, color, label in ((False, GREY, "withheld"), (True, BLUE, "disclosed")):
                rows = shown[decisions.disclosed[shown] == chosen]
                axes.scatter(decisions.unwillingness[rows], expected[rows], s=2, alpha=0.4, color=color, linewidths=0,
                             label=label)
            axes.plot([0, 1], [0, weight], color=ORANGE, label=f"price of unwillingness: {weight:.3g}")
            limit = np.quantile(np.abs(expected), 0.97) or 1  # a few extreme influences would hide the rest
            axes.set(ylim=(-limit, limit), xlabel="unwillingness", ylabel="expected influence (nats)")
            axes.legend(frameon=False, markerscale=4, loc="lower right")
        edges, share, _ = disclosed_by_unwillingness(decisions.unwillingness, decisions.disclosed)
        width = np.diff(edges)
        panels[-1].bar(edges[:-1] + width / 2, 100 * share, width=0.9 * width, color=BLUE)
        panels[-1].set(ylim=(0, 100), xlabel="unwillingness", ylabel="disclosed (%)")
