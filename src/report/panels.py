"""The pictures of report.html: one panel each, as SVG that takes the colour of the page's text, legible on a phone."""
import html
import io
import re

import numpy as np

from ..common.figures import BLUE, GREY, ORANGE, as_written, disclosed_panel, new_figure, tradeoff_panel
from ..constants import PLAIN_MODEL

_INK = re.compile(r"#000000")
_HEADER = re.compile(r"^.*?(?=<svg)", re.S)
_SIZE = re.compile(r'<svg[^>]*?viewBox="([^"]*)"[^>]*>', re.S)
_GROUP_ID = re.compile(r' id="(?![mp][0-9a-f]{10}")[^"]*"')  # nothing refers to them, and they repeat in every picture
_CENTRAL = 0.98  # share of the values that a histogram shows
_BINS = (10, 40)  # of a histogram, at least and at most


class Panel:
    """A picture with one pair of axes.

    Args:
        width, height: inches.
    """

    def __init__(self, width=4.4, height=3.0):
        self.figure, (self.axes,) = new_figure(width, height)
        for side in ("top", "right"):
            self.axes.spines[side].set_visible(False)

    def svg(self, name, label):
        """The SVG element as text.

        Args:
            name: unique in the page; its ids begin with it.
            label: what the picture shows, for those who do not see it.
        """
        import matplotlib
        text = io.StringIO()
        with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
            self.figure.savefig(text, format="svg", transparent=True, metadata=dict.fromkeys(("Date", "Creator", "Format",
                                                                                              "Type")))
        svg = _INK.sub("currentColor", _HEADER.sub("", text.getvalue()))
        svg = _GROUP_ID.sub("", svg)
        described = f'role="img" aria-label="{html.escape(label)}"'
        return _SIZE.sub(lambda found: f'<svg viewBox="{found[1]}" {described}>', svg, count=1)


def learning_curves(histories, key, ylabel):
    """A quantity by epoch, a curve for each model.

    Args:
        histories: dict of model to (list of dicts with epoch and `key`, epoch to mark).
        key: of the records.
        ylabel: of the axis.
    """
    panel = Panel()
    for model, (history, marked) in histories.items():
        color = GREY if model == PLAIN_MODEL else BLUE
        epochs = [record["epoch"] for record in history]
        panel.axes.plot(epochs, [record[key] for record in history], color=color, label=model)
        value = [record[key] for record in history if record["epoch"] == marked]
        panel.axes.plot([marked] * len(value), value, "o", color=color, markersize=5)
    panel.axes.xaxis.get_major_locator().set_params(integer=True)
    panel.axes.set_xlabel("epoch")
    panel.axes.set_ylabel(ylabel)
    panel.axes.legend(frameon=False)
    return panel


def histogram(series, xlabel, ylabel):
    """Histograms of the central 98% of the values, in shares of all.

    Args:
        series: dict of label to array; the first is filled.
        xlabel, ylabel: of the axes.
    """
    panel = Panel()
    outer = (1 - _CENTRAL) / 2
    ends = [np.quantile(values, [outer, 1 - outer]) for values in series.values()]
    low, high = min(e[0] for e in ends), max(e[1] for e in ends)
    number = int(np.clip(np.sqrt(max(map(len, series.values()))), *_BINS))
    bins = np.linspace(low, high if high > low else low + 1, number + 1)
    for (label, values), color, style in zip(series.items(), (BLUE, ORANGE), ("stepfilled", "step")):
        panel.axes.hist(values, bins, weights=np.full(len(values), 100 / len(values)), histtype=style, color=color,
                        alpha=0.75 if style == "stepfilled" else 1, label=label)
    panel.axes.axvline(0, color=GREY, linestyle=":", linewidth=1)
    panel.axes.set_xlabel(xlabel)
    panel.axes.set_ylabel(ylabel)
    if len(series) > 1:
        panel.axes.legend(frameon=False)
    return panel


def shares_by_unwillingness(edges, share):
    """Disclosed share in bins of unwillingness."""
    panel = Panel()
    disclosed_panel(panel.axes, edges, share)
    return panel


def shares_by_name(names, share, overall):
    """Disclosed share (%) by genre, as horizontal bars, the first on top; `overall` is marked."""
    panel = Panel(height=max(2.0, 0.6 + 0.22 * len(names)))
    place = np.arange(len(names))[::-1]
    panel.axes.barh(place, share, height=0.7, color=BLUE)
    panel.axes.axvline(overall, color=ORANGE, linestyle=":")
    panel.axes.set_yticks(place, list(map(as_written, names)), fontsize="small")
    panel.axes.set_xlim(0, 100)
    panel.axes.set_ylim(-0.6, len(names) - 0.4)
    panel.axes.set_xlabel(f"disclosed (%); all: {overall:.0f}%")
    return panel


def tradeoff(table, metric):
    """A metric of the trade-off study; see plots.tradeoff_plot."""
    panel = Panel(height=3.6)
    tradeoff_panel(panel.axes, table, metric)
    panel.axes.legend(frameon=False, fontsize="x-small", ncols=2)
    return panel
