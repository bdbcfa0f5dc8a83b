"""The sections of report.html: functions of Results and settings that return blocks, none without any."""
from pathlib import Path

import numpy as np
import pandas as pd

from .. import metrics
from ..constants import DISCLOSURE_PLOT, GENRES
from ..evaluation.compare import changes_in_quarters, comparison_rows, rankings, rows_that_serve
from ..game.rule import Rule
from ..game.strategies import known
from . import panels, run
from .panels import bullets, figures, table

Z95 = 1.96
MOST_GENRES = 30  # the rest are shown together
QUANTILES = (0.01, 0.1, 0.5, 0.9, 0.99)
MEANINGS = ("loss and pos_loss in nats (mean cross-entropy of all candidates; of the test items). wv: unwillingness that is "
            "violated, per user; spent_wv: of all that any parameter was trained on to find the mask. reward = -loss - "
            "willingness_weight × wv. user rows: trained, as the model has them, or personal, refitted on a user's whole "
            "history but what they vetoed; figures are of these, but those that end in _trained or _personal.")
NOBODY_STATED = {"uniform": "drawn at random", "constant": "set to the same for all", "ratings": "derived from the ratings",
                 "genres": "derived from genres"}
PLAYED = ("Influences are first-order predictions of what retraining would do, for the interaction's own user only; "
          "scripts/run_fidelity.sh measures how well they predict it.",
          "The reward joins a mean over many candidates with a price that the game weighs against one item: it compares "
          "masks at one price, and is no measure of satisfaction.")


def summary(results, config):
    decisions, lines = results.decisions, []
    if decisions is not None:
        lines.append(f"{decisions.disclosed.sum():,} of {len(decisions.disclosed):,} interactions "
                     f"({100 * decisions.disclosed.mean():.0f}%) train the recommender, at "
                     f"{100 * decisions.wv_share:.0f}% of the unwillingness that using everything would violate.")
        if "spent_wv" in decisions.record:
            lines.append("Nothing was trained on before it was disclosed." if known(decisions).asks else
                         f"To find the mask, a wv of {decisions.record['spent_wv']:.4g} was spent: that of all that any "
                         "parameter was trained on.")
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
        return [table(["", model], rows), MEANINGS,
                "There is no comparison: the other model has not been evaluated on the same data and settings."]
    intervals = changes_with_intervals(results)
    marks = {1: "\N{NO-BREAK SPACE}▲", -1: "\N{NO-BREAK SPACE}▼", 0: ""}
    rows = [(key, before, after, change + marks[better], " to ".join(f"{end:+.4f}" for end in intervals.get(key, ())))
            for (key, before, after, change), better in zip(*comparison_rows(*(found.record for found in results.pair)))]
    return [table(["", *results.models, "change", "95% interval"], rows,
                  "Test items, ranked among candidates that the user never interacted with. ▲ for the better, ▼ for the "
                  "worse. Intervals: paired over users, for one training of each model."), MEANINGS]


def changes_with_intervals(results):
    """Dict of metric to the 95% interval (low, high) of its change, paired over users."""
    k = results.top_k
    keys = [f"hr@{k}", f"ndcg@{k}", "loss", "pos_loss"]
    plain, masked = (found.users.assign(**{keys[0]: (found.users["rank"] < k).astype(float),
                                           keys[1]: metrics.gains_of_ranks(found.users["rank"], k)})[keys]
                     for found in results.pair)
    change = masked - plain
    half = Z95 * change.sem().fillna(np.inf)
    return dict(zip(change, zip(change.mean() - half, change.mean() + half)))


def influence(results, config):
    decisions = results.decisions
    if decisions is None or decisions.influence is None or not len(decisions.influence):
        return []
    known_item = "validation item" if config.holdout else "last item"
    series = {f"on the {known_item}": decisions.influence, "expected on the next item": decisions.expected}
    quantiles = {name: np.quantile(values, QUANTILES) for name, values in series.items()}
    rows = [(f"{100 * share:.0f}%", *(f"{q[k]:+.4f}" for q in quantiles.values())) for k, share in enumerate(QUANTILES)]
    rows.append(("positive", *(f"{100 * (values > 0).mean():.0f}%" for values in series.values())))
    blocks = [figures(panels.histogram("Histogram of the influences, whose quantiles follow", series, "influence (nats)",
                                       "interactions (%)")),
              table(["quantile", *series], rows, "Influences in nats. Positive: disclosing the interaction helps its user.")]
    fits = decisions.record.get("expectation", {}).values()
    correlation = [fitted["correlation"] for fitted in fits if "correlation" in fitted]  # ask-first fits none
    if correlation:
        blocks.append("The game goes by what is expected on the next item; one step back in time, where the next item is "
                      f"known, it correlates to {correlation[-1]:.2f} with the influence on that item.")
    return blocks


def disclosed(results, config):
    decisions, dataset = results.decisions, results.dataset
    if decisions is None or not len(decisions.disclosed):
        return []
    edges, share, count = metrics.disclosed_by_unwillingness(decisions.unwillingness, decisions.disclosed)
    said = ", ".join(f"{edges[k]:.1f} to {edges[k + 1]:.1f}: {100 * share[k]:.0f}%" for k in np.flatnonzero(count))
    blocks = [figures(panels.drawn_before(Path(config.output_path) / DISCLOSURE_PLOT,
                                          f"Disclosed share by unwillingness: {said}"))]
    genres = results.catalogue[GENRES]
    if (genres == "").all():
        return blocks
    one = genres.where(genres != "", "(none listed)").str.split("|").explode().map(lambda name: " ".join(name.split()))
    one = one.where(one.isin(one.value_counts().index[:MOST_GENRES]), "(others)").reset_index().drop_duplicates()
    number, kept = (np.bincount(dataset.item, weights, dataset.num_items)[one["index"]]
                    for weights in (None, decisions.disclosed))
    by_genre = one.assign(number=number, kept=kept).groupby(GENRES)[["number", "kept"]].sum().query("number > 0")
    by_genre["share"] = 100 * by_genre.kept / by_genre.number
    rows = [(row.Index, f"{row.number:,}", f"{row.share:.0f}%")
            for row in by_genre.sort_values("share", ascending=False, kind="stable").itertuples()]
    return [*blocks, table(["genre", "interactions", "disclosed"], rows)]


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
    return [figures(panels.histogram("Histogram of the changes of users' losses, whose means follow",
                                     {"change": users.loss_change.to_numpy()}, "change of loss (nats)", "users (%)")),
            table(["users by history", "number", "loss change", "worse off", f"HR@{k} change"], rows,
                  "Masked against plain; left of 0 in the picture is better."),
            f"{100 * gained:.1f}% of the users have their test item among the first {k} only after, {100 * lost:.1f}% only "
            "before. Chance alone, another seed, makes about half of all users worse off."]


def limits(results, config):
    decisions, evaluated = results.decisions, next(iter(results.models.values())).record
    lines = [f"Each model was trained once (seed {evaluated['seed']}). The intervals are over users, not over trainings; "
             "--seeds repeats training and evaluation, scripts/run_tradeoff.sh compares over seeds." if evaluated else
             f"{run.UNSCORED}: a run without --holdout 0, in folders of its own, does."]
    if evaluated and not any(key.startswith("full_") for key in evaluated):
        lines.append(f"The test item is ranked among {evaluated['num_candidates'] - 1} other candidates, which is easier "
                     "than ranking the whole catalogue: --eval_mode full.")
    if config.dataset == "simulation":
        lines.append("The dataset is simulated; no figure here is about people.")
    if decisions is not None:
        if results.dataset.validation is not None and known(decisions).sees_validation:
            lines.append("What decided has looked at each user's validation item, which is no evidence for the masked model "
                         "then, and stands just before the test item: what comes long after may gain less. The control "
                         "`none+validation` (trade-off study) shows what that item is worth.")
        if (source := decisions.record["unwillingness"]) in NOBODY_STATED:
            lines.append(f"Unwillingness was {NOBODY_STATED[source]}: nobody stated it, but where rules do.")
        lines.append("The plain model was trained on everything that may be used, also on what users withhold.")
        lines += PLAYED if Rule(decisions).played else ["A baseline decided; there are no influences, and no price."]
    return [bullets(*lines)]


# id, title, function
SECTIONS = (("summary", "In short", summary), ("comparison", "Both models", comparison),
            ("run", "What was run", run.what_was_run), ("training", "Training", run.training),
            ("influence", "Influences", influence), ("disclosed", "What is disclosed", disclosed),
            ("users", "Who gains, who pays", changes), ("limits", "What these figures do not show", limits))
