"""The pictures of report.html, those that a stage has drawn and its own, as HTML."""
import base64
import html
import io

import numpy as np

from ..common import figures
from ..common.figures import BLUE, GREY, ORANGE

_CENTRAL = 0.98  # share of the values that a histogram shows
_BINS = (10, 40)  # of a histogram, at least and at most


def picture(label, draw, *arguments):
    """A picture for blocks.figures that draw(axes, *arguments) draws; `label` says what it shows to who does not see it."""
    figure, content = figures.new_figure(5, 3.6), io.BytesIO()
    draw(*figure.axes, *arguments)
    figure.savefig(content, dpi=100)
    return _element(content.getvalue(), label)


def drawn_before(path, label):
    """The picture of a stage for blocks.figures, with its label; "" where it could not be drawn."""
    return _element(path.read_bytes(), label) if path.is_file() else ""


def _element(png, label):
    return f'<img src="data:image/png;base64,{base64.b64encode(png).decode()}" alt="{html.escape(label)}">'


def histogram(axes, series, xlabel, ylabel):
    """Up to three histograms by label, of the central 98% of the values in shares of all; the first is filled."""
    outer = (1 - _CENTRAL) / 2
    ends = np.array([np.quantile(values, [outer, 1 - outer]) for values in series.values()])
    low, high = ends[:, 0].min(), ends[:, 1].max()
    number = int(np.clip(np.sqrt(max(map(len, series.values()))), *_BINS))
    bins = np.linspace(low, high if high > low else low + 1, number + 1)
    for (label, values), color in zip(series.items(), (BLUE, ORANGE, GREY)):
        style = {"histtype": "stepfilled", "alpha": 0.75} if color == BLUE else {"histtype": "step"}
        weights = np.full(len(values), 100 / len(values))
        axes.hist(values, bins, weights=weights, color=color, label=label, **style)
    axes.axvline(0, color=GREY, linestyle=":", linewidth=1)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    if len(series) > 1:
        axes.legend(frameon=False)
