"""The blocks that a section of the report is made of beside paragraphs, which are strings; pictures are HTML."""
import base64
import html
import io

import numpy as np

from ..common.figures import BLUE, GREY, ORANGE, new_figure

_CENTRAL = 0.98  # share of the values that a histogram shows
_BINS = (10, 40)  # of a histogram, at least and at most


def bullets(*lines):
    return {"kind": "list", "lines": list(lines)}


def table(header, rows, caption="", words=()):
    """A table; the first column holds names, the others numbers, or those at the places `words` text."""
    return {"kind": "table", "header": list(header), "rows": [list(map(str, row)) for row in rows], "caption": caption,
            "words": list(words)}


def figures(*pictures):
    """Pictures of `panels` side by side where there is room."""
    return {"kind": "figures", "figures": [picture for picture in pictures if picture]}


def drawn_before(path, label):
    """The picture of a stage, see histogram; "" where it could not be drawn."""
    return _element(path.read_bytes(), label) if path.is_file() else ""


def _element(png, label):
    return f'<img src="data:image/png;base64,{base64.b64encode(png).decode()}" alt="{html.escape(label)}">'


def histogram(label, series, xlabel, ylabel):
    """A picture for figures; `label` says what it shows to who does not see it.

    Histograms of one or two series by name, of the central 98% of the values in shares of all; the first is filled.
    """
    figure, content = new_figure(5, 3.6), io.BytesIO()
    axes, outer = figure.axes[0], (1 - _CENTRAL) / 2
    ends = np.array([np.quantile(values, [outer, 1 - outer]) for values in series.values()])
    low, high = ends[:, 0].min(), ends[:, 1].max()
    number = int(np.clip(np.sqrt(max(map(len, series.values()))), *_BINS))
    bins = np.linspace(low, high if high > low else low + 1, number + 1)
    styles = {"histtype": "stepfilled", "alpha": 0.75, "color": BLUE}, {"histtype": "step", "color": ORANGE}
    for (name, values), style in zip(series.items(), styles):
        axes.hist(values, bins, weights=np.full(len(values), 100 / len(values)), label=name, **style)
    axes.axvline(0, color=GREY, linestyle=":", linewidth=1)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    if len(series) > 1:
        axes.legend(frameon=False)
    figure.savefig(content, dpi=100)
    return _element(content.getvalue(), label)
