"""The sections of report.html: functions of Results and settings that return blocks, none without any."""
from pathlib import Path

import numpy as np
import pandas as pd

from .. import metrics
from ..constants import DISCLOSURE_PLOT, GENRES
from ..evaluation.compare import comparison_rows, rankings, rows_that_serve
from ..evaluation.quarters import changes_in_quarters
from ..game.rule import Rule
from ..game.strategies import known
from . import panels, run
from .blocks import bullets, figures, table, text

Z95 = 1.96
MOST_GENRES = 30  # the rest are shown together
QUANTILES = (0.01, 0.1, 0.5, 0.9, 0.99)


def summary(results, config):
    decisions = results.decisions
    lines = []
    if decisions is not None:
        lines.append(f"{decisions.disclosed.sum():,} of {len(decisions.disclosed):,} interactions "
                     f"({100 * decisions.disclosed.mean():.0f}%) train the recommender, at "
                     f"{100 * decisions.wv_share:.0f}% of the unwillingness that using everything would violate.")
        if "spent_wv" in decisions.record:
            spent = decisions.record["spent_wv"] / decisions.record["total_wv"] if decisions.record["total_wv"] else 0
            lines.append("Nothing was trained on before it was disclosed." if known(decisions).asks else
                         f"To find the mask, {100 * spent:.0f}% of the unwillingness was violated: the wv of all that was "
                         "trained on.")
    if results.pair:
        plain, masked = (found.record for found in results.pair)
        intervals = changes_with_intervals(results)
        for key in (f"hr@{results.top_k}", f"ndcg@{results.top_k}"):
            low, high = intervals[key]
            word = "better than" if low > 0 else "worse than" if high < 0 else "within the noise of"
            lines.append(f"{key.upper()} of the test items: {masked[key]:.3f} after, {plain[key]:.3f} before: {word} "
                         f"everything disclosed, for this one training of each (change {masked[key] - plain[key]:+.3f}, "
                         f"95% interval {low:+.3f} to {high:+.3f}).")
    if not config.holdout:
        lines.append(f"{run.UNSCORED}.")
    if not lines:
        (model, found), = results.models.items()
        lines.append(f"{model}: " + ", ".join(f"{key.upper()} {found.record[key]:.3f}"
                                              for key in rankings(found.record)) + ".")
    return [bullets(*lines)]


def comparison(results, config):
    if not config.holdout:
        return []
    if not results.pair:
        (model, found), = results.models.items()
        rows = [*rows_that_serve(found.record),
                *((key, f"{value:.4f}") for key, value in found.record.items() if isinstance(value, float))]
        return [table(["", model], rows), *_about_rows(found.record),
                text("There is no comparison: the other model has not been evaluated on the same data and settings.")]
    intervals = changes_with_intervals(results)
    marks = {1: "\N{NO-BREAK SPACE}▲", -1: "\N{NO-BREAK SPACE}▼", 0: ""}
    rows = [(key, before, after, change + marks[better], " to ".join(f"{end:+.4f}" for end in intervals.get(key, ())))
            for (key, before, after, change), better in zip(*comparison_rows(*(found.record for found in results.pair)))]
    return [table(["", *results.models, "change", "95% interval"], rows,
                  "Test items, ranked among candidates that the user never interacted with. ▲ for the better, ▼ for the "
                  "worse. Intervals: paired over users, for one training of each model."),
            text("loss and pos_loss in nats (mean cross-entropy of all candidates; of the test items). wv: unwillingness "
                 "that is violated, per user; spent_wv: of all that any parameter was trained on to find the mask. "
                 "reward = -loss - willingness_weight × wv."),
            *_about_rows(*(found.record for found in results.pair))]


def _about_rows(*records):
    """What user rows are, where --personal was given: a list of at most one block."""
    if not rows_that_serve(*records):
        return []
    return [text("user rows: trained, as the model has them, or personal, refitted on a user's whole history but what they "
                 "vetoed. Figures are of the rows that are named, but those that end in _trained or _personal.")]


def changes_with_intervals(results):
    """Dict of metric to the 95% interval (low, high) of its change, paired over users."""
    k = results.top_k
    plain, masked = ({f"hr@{k}": found.users["rank"] < k, f"ndcg@{k}": metrics.gains_of_ranks(found.users["rank"], k),
                      "loss": found.users["loss"], "pos_loss": found.users["pos_loss"]} for found in results.pair)
    intervals = {}
    for key in plain:
        change = np.asarray(masked[key], float) - np.asarray(plain[key], float)
        half = Z95 * change.std(ddof=1) / np.sqrt(len(change)) if len(change) > 1 else np.inf
        intervals[key] = change.mean() - half, change.mean() + half
    return intervals


def influence(results, config):
    decisions = results.decisions
    if decisions is None or decisions.influence is None or not len(decisions.influence):
        return []
    known_item = "validation item" if config.holdout else "last item"
    series = {f"on the {known_item}": decisions.influence, "expected on the next item": decisions.expected}
    quantiles = {name: np.quantile(values, QUANTILES) for name, values in series.items()}
    positive = {name: f"{100 * (values > 0).mean():.0f}%" for name, values in series.items()}
    said = "; ".join(f"{name}: from {q[0]:.2g} (1%) over {q[2]:.2g} (median) to {q[4]:.2g} (99%), {positive[name]} positive"
                     for name, q in quantiles.items())
    rows = [(f"{100 * share:.0f}%", *(f"{q[k]:+.4f}" for q in quantiles.values())) for k, share in enumerate(QUANTILES)]
    shown = panels.picture(f"Histogram of the influences: {said}", panels.histogram, series,
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
    blocks = [figures(panels.drawn_before(Path(config.output_path) / DISCLOSURE_PLOT,
                                          f"Disclosed share by unwillingness: {said}"))]
    if (genres := _genres(results)) is None:
        return blocks
    number, kept = (np.bincount(dataset.item, weights, dataset.num_items) @ genres.to_numpy()
                    for weights in (None, decisions.disclosed))
    by_genre = pd.DataFrame({"number": number, "share": 100 * kept / np.maximum(number, 1)}, genres.columns)
    by_genre = by_genre[by_genre.number > 0].sort_values("share", ascending=False, kind="stable")
    rows = [(row.Index, f"{row.number:,.0f}", f"{row.share:.0f}%") for row in by_genre.itertuples()]
    return [*blocks, table(["genre", "interactions", "disclosed"], rows)]


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


def changes(results, config):
    if not results.pair:
        return []
    k = results.top_k
    plain, masked = (found.users for found in results.pair)
    before, after = plain["rank"] < k, masked["rank"] < k
    users = pd.DataFrame({"loss_change": masked["loss"] - plain["loss"], "hit_change": after.astype(int) - before})
    length = results.dataset.history.length[results.dataset.scored]
    parts = [("all", row) for row in changes_in_quarters(users, np.zeros(len(users))).itertuples()]
    parts += [(f"{row.low} to {row.high} interactions", row) for row in changes_in_quarters(users, length).itertuples()]
    rows = [(name, f"{row.users:,}", f"{row.loss_change:+.4f}", f"{100 * row.worse:.0f}%", f"{row.hit_change:+.3f}")
            for name, row in parts]
    gained, lost = (users.hit_change > 0).mean(), (users.hit_change < 0).mean()
    low, median, high = users.loss_change.quantile([0.05, 0.5, 0.95])
    said = (f"Change of the loss per user: 5% gain more than {-low:.3f}, the median is {median:+.4f}, 5% lose more than "
            f"{high:.3f} nats")
    return [figures(panels.picture(said, panels.histogram, {"change": users.loss_change.to_numpy()},
                                   "change of a user's loss (nats)", "users (%)")),
            table(["users by history", "number", "loss change", "worse off", f"HR@{k} change"], rows,
                  "Masked against plain; left of 0 in the picture is better."),
            text(f"{100 * gained:.1f}% of the users have their test item among the first {k} only after, "
                 f"{100 * lost:.1f}% only before. Chance alone, another seed, makes about half of all users worse off.")]


def limits(results, config):
    record = results.decisions.record if results.decisions is not None else None
    evaluated = next(iter(results.models.values())).record
    lines = [f"Each model was trained once (seed {evaluated['seed']}). The intervals are over users, not over trainings; "
             "--seeds repeats training and evaluation, scripts/run_tradeoff.sh compares over seeds." if evaluated else
             f"{run.UNSCORED}: a run without --holdout 0, in folders of its own, does."]
    if evaluated and not any(key.startswith("full_") for key in evaluated):
        lines.append(f"The test item is ranked among {evaluated['num_candidates'] - 1} other candidates, which is easier "
                     "than ranking the whole catalogue: --eval_mode full.")
    if config.dataset == "simulation":
        lines.append("The dataset is simulated; no figure here is about people.")
    if record is None:
        return [bullets(*lines)]
    if run.looked_at_validation(results):
        lines.append("What decided has looked at each user's validation item, just before the test item. What comes long "
                     "after may gain less; the control `none+validation` (trade-off study) shows what that item itself is "
                     "worth.")
    source = {"uniform": "drawn at random", "constant": "set to the same for all", "ratings": "derived from the ratings",
              "genres": "derived from genres"}
    if record["unwillingness"] in source:
        stated = " where the rules state no other." if record.get("willingness_file") else ": nobody stated it."
        lines.append(f"Unwillingness was {source[record['unwillingness']]}{stated}")
    asked = known(results.decisions).asks
    lines.append("The plain model was trained on everything that may be used, also on what users withhold"
                 + (": it is there to be compared with, and the mask did not look at it" if asked else "") + ".")
    if not Rule(results.decisions).played:
        lines.append("A baseline decided; there are no influences, and no price.")
        return [bullets(*lines)]
    model = ("models of what was disclosed by then" if asked else "the plain model" if config.holdout else
             "a model that was trained without each user's last one")
    lines.append(f"Influences are first-order predictions of what retraining would do, made from {model}, for the "
                 "interaction's own user only; scripts/run_fidelity.sh measures how well they predict it.")
    lines.append("The reward joins a mean over many candidates with a price that the game weighs against one item: it "
                 "compares masks at one price, and is no measure of satisfaction.")
    return [bullets(*lines)]


# id, title, function
SECTIONS = (("summary", "In short", summary), ("comparison", "Both models", comparison),
            ("run", "What was run", run.what_was_run), ("training", "Training", run.training),
            ("influence", "Influences", influence),
            ("disclosed", "What is disclosed", disclosed),
            ("users", "Who gains, who pays", changes),
            ("limits", "What these figures do not show", limits))
