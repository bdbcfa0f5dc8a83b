"""The pictures of report.html: those that a stage has drawn, and one-panel SVGs that take the colour of the page's text."""
import base64
import html
import io
import re

import numpy as np

from ..common import figures
from ..common.figures import GREY

_HEADER = re.compile(r"^.*?(?=<svg)", re.S)
_SIZE = re.compile(r'<svg[^>]*?viewBox="([^"]*)"[^>]*>', re.S)
_GROUP_ID = re.compile(r' id="(?![mp][0-9a-f]{10}")[^"]*"')  # nothing refers to them, and they repeat in every picture
_CENTRAL = 0.98  # share of the values that a histogram shows
_BINS = (10, 40)  # of a histogram, at least and at most


def picture(name, label, draw, *arguments):
    """A picture for blocks.figures: an SVG element as text.

    Args:
        name: unique in the page; its ids begin with it.
        label: what the picture shows, for those who do not see it.
        draw: function of the axes and `arguments`.
    """
    import matplotlib
    figure = figures.new_figure(4.4, 3.0)
    axes, = figure.axes
    axes.spines[["top", "right"]].set_visible(False)
    draw(axes, *arguments)
    text = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(text, format="svg", transparent=True, metadata=nothing)
    element = _HEADER.sub("", text.getvalue()).replace("#000000", "currentColor")
    element = _GROUP_ID.sub("", element)
    described = f'role="img" aria-label="{html.escape(label)}"'
    return _SIZE.sub(lambda found: f'<svg viewBox="{found[1]}" {described}>', element, count=1)


def drawn_before(path, label):
    """The PNG of a stage as an element for blocks.figures, with its label; "" where it could not be drawn."""
    if not path.is_file():
        return ""
    return (f'<img src="data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}" '
            f'alt="{html.escape(label)}">')


def histogram(axes, series, xlabel, ylabel):
    """Histograms of the central 98% of the values, in shares of all; see figures.histograms."""
    outer = (1 - _CENTRAL) / 2
    ends = np.array([np.quantile(values, [outer, 1 - outer]) for values in series.values()])
    low, high = ends[:, 0].min(), ends[:, 1].max()
    number = int(np.clip(np.sqrt(max(map(len, series.values()))), *_BINS))
    bins = np.linspace(low, high if high > low else low + 1, number + 1)
    figures.histograms(axes, series, bins, percent=True)
    axes.axvline(0, color=GREY, linestyle=":", linewidth=1)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    if len(series) > 1:
        axes.legend(frameon=False)
