"""What the report says of the interactions: influences, and what is disclosed."""
import numpy as np
import pandas as pd

from .. import metrics
from ..common.figures import disclosed_panel
from ..constants import GENRES
from . import panels
from .blocks import figures, table, text

MOST_GENRES = 30  # the rest are shown together
QUANTILES = (0.01, 0.1, 0.5, 0.9, 0.99)


def influence(results, config):
    decisions = results.decisions
    if decisions is None or decisions.influence is None or not len(decisions.influence):
        return []
    series = {"on the validation item": decisions.influence, "expected on the next item": decisions.expected}
    quantiles = {name: np.quantile(values, QUANTILES) for name, values in series.items()}
    positive = {name: f"{100 * (values > 0).mean():.0f}%" for name, values in series.items()}
    said = "; ".join(f"{name}: from {q[0]:.2g} (1%) over {q[2]:.2g} (median) to {q[4]:.2g} (99%), {positive[name]} positive"
                     for name, q in quantiles.items())
    rows = [(f"{100 * share:.0f}%", *(f"{q[k]:+.4f}" for q in quantiles.values())) for k, share in enumerate(QUANTILES)]
    shown = panels.picture("influence", f"Histogram of the influences: {said}", panels.histogram, series,
                           "influence (nats)", "interactions (%)")
    blocks = [figures(shown),
              table(["quantile", *series], [*rows, ("positive", *positive.values())],
                    "Influences in nats. Positive: disclosing the interaction helps its user.")]
    fits = decisions.record.get("expectation", {}).values()
    correlation = [fitted["correlation"] for fitted in fits if "correlation" in fitted]  # ask-first fits none
    if correlation:
        blocks.append(text("The game goes by what is expected on the next item; one step back in time, where the next item "
                           f"is known, it correlates to {correlation[-1]:.2f} with the influence on that item."))
    return blocks


def disclosed(results, config):
    decisions, dataset = results.decisions, results.dataset
    if decisions is None or not len(decisions.disclosed):
        return []
    edges, share, count = metrics.disclosed_by_unwillingness(decisions.unwillingness, decisions.disclosed)
    said = ", ".join(f"{edges[k]:.1f} to {edges[k + 1]:.1f}: {100 * share[k]:.0f}%" for k in np.flatnonzero(count))
    pictures = [panels.picture("by_unwillingness", f"Disclosed share by unwillingness: {said}", disclosed_panel, edges,
                               share)]
    genres = _genres(results)
    if genres is None:
        return [figures(*pictures)]
    number, kept = (np.bincount(dataset.item, weights, dataset.num_items) @ genres.to_numpy()
                    for weights in (None, decisions.disclosed))
    by_genre = pd.DataFrame({"number": number, "share": 100 * kept / np.maximum(number, 1)}, genres.columns)
    by_genre = by_genre[by_genre.number > 0].sort_values("share", ascending=False, kind="stable")
    rows = [(row.Index, f"{row.number:,.0f}", f"{row.share:.0f}%") for row in by_genre.itertuples()]
    said = ", ".join(f"{name} {value}" for name, _, value in rows)
    pictures.append(panels.picture("by_genre", f"Disclosed share by genre: {said}", panels.shares_by_name, by_genre.index,
                                   by_genre.share, 100 * decisions.disclosed.mean(),
                                   height=max(2.0, 0.6 + 0.22 * len(rows))))
    return [figures(*pictures), table(["genre", "interactions", "disclosed"], rows)]


def _genres(results):
    """(num_items, genres) DataFrame of bool, of the most frequent genres; None if no genres are known."""
    listed = results.catalogue[GENRES]
    if (listed == "").all():
        return None
    one = listed.where(listed != "", "(none listed)").str.split("|").explode().map(lambda name: " ".join(name.split()))
    kept = one.value_counts().index[:MOST_GENRES]
    code, names = pd.factorize(one.where(one.isin(kept), "(others)"), sort=True)
    has = np.zeros((len(listed), len(names)), bool)
    has[one.index, code] = True
    return pd.DataFrame(has, columns=names)
