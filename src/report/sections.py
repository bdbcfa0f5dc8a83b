"""What report.html and report.md say: sections of blocks (text, list, table, pictures) that a template turns into either."""
import numpy as np
import pandas as pd
import yaml

from .. import __version__, metrics
from ..common.columns import ORDER
from ..common.machine import mindspore_version
from ..common.plugins import label
from ..config import shipped
from ..constants import GENRES, MASKED_MODEL, PLAIN_MODEL
from ..dataset import time_unit
from ..evaluation.compare import comparison_rows
from ..evaluation.explain import Rule
from ..game.baselines import BASELINES
from ..game.strategies import NONE
from . import panels

KINDS = 10  # most helpful and most harmful kinds of interaction
LEAST_OF_KIND = 30  # interactions that a kind must have
POPULARITY = ((0.1, "the most popular tenth"), (0.5, "the middle"), (1.0, "the less popular half"))  # of the items
MOST_GENRES = 30  # the rest are shown together
# options that may hold addresses and passwords, or that name users
PRIVATE = ("mirror", "data_url", "train_url", "checkpoint_url", "recommend", "explain_user")
GROUPS = 4  # of users, by length of history
Z95 = 1.96


def text(content):
    return {"kind": "text", "text": content}


def table(header, rows, caption="", words=()):
    """A table; the first column holds names, the others numbers, or those at the places `words` text."""
    return {"kind": "table", "header": list(header), "rows": [list(map(str, row)) for row in rows], "caption": caption,
            "words": list(words)}


def figures(*pictures):
    """Pictures side by side where there is room: (name, Panel, what it shows)."""
    return {"kind": "figures", "figures": [{"svg": panel.svg(name, label), "label": label}
                                           for name, panel, label in pictures]}


def bullets(*lines):
    return {"kind": "list", "lines": list(lines)}


def _pair(results):
    """The records of the plain and of the masked evaluation; None if one is missing."""
    if len(results.evaluations) < 2:
        return None
    return results.evaluations[PLAIN_MODEL], results.evaluations[MASKED_MODEL]


def summary(results, config):
    decisions, pair = results.decisions, _pair(results)
    lines = []
    if decisions is not None:
        lines.append(f"{decisions.disclosed.sum():,} of {len(decisions.disclosed):,} interactions "
                     f"({100 * decisions.disclosed.mean():.0f}%) train the recommender, at "
                     f"{100 * decisions.wv_share:.0f}% of the unwillingness that using everything would violate.")
    if pair:
        intervals = changes_with_intervals(results)
        for key in (f"hr@{results.top_k}", f"ndcg@{results.top_k}"):
            a, b = pair[0][key], pair[1][key]
            low, high = intervals[key]
            word = "better than" if low > 0 else "worse than" if high < 0 else "within the noise of"
            lines.append(f"{key.upper()} of the test items: {b:.3f} after, {a:.3f} before: {word} everything disclosed, for "
                         f"this one training of each (change {b - a:+.3f}, 95% interval {low:+.3f} to {high:+.3f}).")
    if not lines:
        model, record = next(iter(results.evaluations.items()))
        lines.append(f"{model}: " + ", ".join(f"{key.upper()} {value:.3f}" for key, value in record.items()
                                              if key.startswith(("hr@", "ndcg@"))) + ".")
    return [bullets(*lines)]


def comparison(results, config):
    pair = _pair(results)
    if pair is None:
        (model, record), = results.evaluations.items()
        return [table(["", model], [(key, f"{value:.4f}") for key, value in record.items() if isinstance(value, float)]),
                text("There is no comparison: the other model has not been evaluated on the same data and settings.")]
    intervals = changes_with_intervals(results)
    rows, better = comparison_rows(*pair)
    words = {1: "\N{NO-BREAK SPACE}▲", -1: "\N{NO-BREAK SPACE}▼", 0: ""}
    shown = [(*row[:3], row[3] + words[good], " to ".join(f"{end:+.4f}" for end in intervals.get(row[0], ())))
             for row, good in zip(rows, better)]
    blocks = [table(["", PLAIN_MODEL, MASKED_MODEL, "change", "95% interval"], shown,
                    "Test items, ranked among candidates that the user never interacted with. ▲ for the better, ▼ for the "
                    "worse. Intervals: paired over users, for one training of each model."),
              text("loss and pos_loss in nats (mean cross-entropy of all candidates; of the test items). wv: unwillingness "
                   "that is violated, per user. reward = -loss - willingness_weight × wv.")]
    if results.tradeoff is not None and results.study_differs:
        blocks.append(text("The strategies of the trade-off study do not stand beside this run, since it differs in "
                           f"{results.study_differs}. Give both the same options to compare them."))
    elif results.tradeoff is not None:
        share = results.decisions.wv_share if results.decisions is not None else 1.0
        budget = min(results.tradeoff.budget.unique(), key=lambda b: abs(b - share))
        at = results.tradeoff[results.tradeoff.budget == budget]
        shown_metrics = [key for key in at if key.startswith(("hr@", "ndcg@"))] + ["loss", "reward"]
        rows = []
        for strategy, part in at.groupby("strategy", sort=False):
            means = (f"{part[key].mean():.{3 if '@' in key else 4}f}" if part[key].notna().any() else ""
                     for key in shown_metrics)
            rows.append([strategy, f"{100 * part.wv_share.mean():.0f}%", *means])
        blocks.append(table(["strategy", "wv", *(key.upper() if "@" in key else key for key in shown_metrics)], rows,
                            f"Baselines at {100 * budget:g}% of the unwillingness, from the trade-off study: models of its "
                            f"own, mean of {at.seed.nunique()} seed{'s' * (at.seed.nunique() > 1)}."))
    return blocks


def changes_with_intervals(results):
    """Dict of metric to the 95% interval (low, high) of its change, paired over users."""
    k = results.top_k
    plain, masked = results.users[PLAIN_MODEL], results.users[MASKED_MODEL]
    values = {}
    for key, of in ((f"hr@{k}", lambda u: u["rank"] < k),
                    (f"ndcg@{k}", lambda u: metrics.gains_of_ranks(u["rank"], k)),
                    ("loss", lambda u: u["loss"]), ("pos_loss", lambda u: u["pos_loss"])):
        change = np.asarray(of(masked), float) - np.asarray(of(plain), float)
        half = Z95 * change.std(ddof=1) / np.sqrt(len(change)) if len(change) > 1 else np.inf
        values[key] = change.mean() - half, change.mean() + half
    return values


def what_was_run(results, config):
    dataset, decisions = results.dataset, results.decisions
    length = np.bincount(dataset.user, minlength=dataset.num_users)
    held_out = dataset.held_out.shape[1]
    data = [("dataset", dataset.name), ("users", f"{dataset.num_users:,}"), ("items", f"{dataset.num_items:,}"),
            ("training interactions", f"{dataset.num_interactions:,}"),
            ("held out of each user", f"{held_out}: " + ("test item" if held_out == 1 else "test item and the one before"
                                                         if held_out == 2 else "test item and the ones before")),
            ("history of a user", f"{length.min()} to {length.max()}, median {np.median(length):.0f}"),
            ("times", "in " + unit if (unit := time_unit(config)) != ORDER else "none: the order of the rows counts"),
            ("density", f"{100 * dataset.num_interactions / dataset.num_users / dataset.num_items:.2f}% of all pairs")]
    rows = []
    for model, record in results.trainings.items():
        rows.append((f"train {model}", f"{record['seconds']:.1f}",
                     f"{record['epochs']} epochs, {record['ms_per_step']:.2f} ms a step, on {record['device']}"))
    if decisions is not None:
        seconds = decisions.record["seconds"]
        rows.append(("influence and mask", f"{seconds['total']:.1f}",
                     f"influences {seconds['influence']:.1f}, game {seconds['game']:.1f}, writing {seconds['mask']:.1f}; "
                     f"peak memory {decisions.record['peak_rss_mb']:.0f} MB"))
    for model, record in results.evaluations.items():
        if "seconds" in record:
            rows.append((f"evaluate {model}", f"{record['seconds']:.1f}", f"{record['num_candidates']} candidates a user"))
    machines = dict.fromkeys(record["hardware"] for record in results.records.values() if "hardware" in record)
    blocks = [table(["data", ""], data, words=[1]), table(["stage", "seconds", ""], rows, words=[2])]
    if machines:
        blocks.append(text("Machine: " + "; ".join(machines) + "."))
    if decisions is not None:
        blocks.append(table(["decision", ""], _decision_rows(decisions), words=[1]))
    defaults = shipped()[0]
    ignored = ("data_path", "output_path", "checkpoint_path", "decisions_path", "archive", "masked", "overwrite",
               "log_level", "resume", *PRIVATE)  # no result depends on them
    changed = {}
    for name, record in results.records.items():
        for key, value in record.get("all_settings", {}).items():
            if key in defaults and value != defaults[key] and key not in ignored and name != "tradeoff":
                changed.setdefault((key, str(for_others(key, value))), []).append(name)
    if changed:
        blocks.append(table(["option", "value", "stage"], [(key, value, ", ".join(names))
                                                           for (key, value), names in changed.items()],
                            "Options that differ from default_config.yaml.", words=[1, 2]))
    blocks.append({"kind": "details", "summary": "All settings",
                   "text": "\n".join(f"{name}:\n{_settings_for_others(record)}" for name, record in results.records.items())
                   + f"\nIFRQE on MindSpore {__version__}, MindSpore {mindspore_version()}"})
    if results.left_out:
        blocks.append(text("Left out, since it does not belong to this run: " + "; ".join(results.left_out) + "."))
    return blocks


def for_others(key, value):
    """The value of an option as people elsewhere may see it: of paths, the last part."""
    if not isinstance(value, str) or key in PRIVATE:
        return "" if key in PRIVATE else value
    parts = value.split(",") if key in ("tradeoff_strategies", "fidelity_solvers") else [value]
    return ",".join(part.rstrip("/").rsplit("/", 1)[-1] if "/" in part else part for part in parts)


def _settings_for_others(record):
    settings = record.get("all_settings", {}).items()
    return yaml.safe_dump({key: for_others(key, value) for key, value in settings if key not in PRIVATE}, sort_keys=False,
                          indent=2)


UNWILLINGNESS_WORDS = {"willing": "0", "uniform": "uniform at random", "constant": "the same for all"}


def _decision_rows(decisions):
    record = decisions.record
    rows = [("strategy", label(record["strategy"])),
            ("unwillingness from", f"{record['willingness_file']}, for the rest " * bool(record.get("willingness_file"))
             + UNWILLINGNESS_WORDS.get(record["unwillingness"], record["unwillingness"])),
            ("disclosed", f"{decisions.disclosed.sum():,} of {len(decisions.disclosed):,} "
                          f"({100 * record['disclosed_share']:.1f}%)"),
            ("wv", f"{record['wv']:.4g} of {record['total_wv']:.4g} ({100 * decisions.wv_share:.1f}%)")]
    if record["wv_budget"] is not None:
        rows.append(("budget", f"{100 * record['wv_budget']:g}% of total_wv"))
    if record["willingness_weight"] is not None:
        rows.append(("price of unwillingness", f"{record['willingness_weight']:.4g}"))
    if "solver" in record:
        rows.append(("influences", f"solver {record['solver']}, {record['parameter_sets']} sets of parameters of "
                                   f"{record['influence_models']} model{'s' * (record['influence_models'] > 1)}, "
                                   f"{record['anchors']} anchor{'s' * (record['anchors'] > 1)}"))
    if record.get("vetoed"):
        rows.append(("vetoed", f"{record['vetoed']:,}"))
    return rows


def tradeoff(results, config):
    study = results.tradeoff
    if study is None:
        return []
    settings = results.records["tradeoff"].get("all_settings", {})
    blocks = [figures(*(
        (f"tradeoff{k}", panels.tradeoff(study, metric),
         f"{metric.upper()} of every strategy by the share of the unwillingness that it violates: "
         + "; ".join(f"{name} {_range(rows, metric)}" for name, rows in study.groupby("strategy", sort=False)))
        for k, metric in enumerate(key for key in study if key.startswith(("hr@", "ndcg@")))))]
    blocks.append(text(f"Study of {study.seed.nunique()} seeds: recipe {settings.get('recipe')}, batch_size "
                       f"{settings.get('batch_size')}, {settings.get('train_epochs')} epochs. Bars are standard deviations "
                       "over seeds. Its models are not those of this run."))
    return blocks


def _range(rows, metric):
    by_budget = rows.groupby("budget")[metric].mean().dropna()
    if by_budget.empty:
        return "not known"
    if by_budget.nunique() == 1:
        return f"{by_budget.iloc[0]:.3f}"
    return " to ".join(f"{by_budget.iloc[k]:.3f} at {100 * by_budget.index[k]:g}%" for k in (0, -1))


def training(results, config):
    if not results.trainings:
        return []
    first = next(iter(results.trainings.values()))["history"][0]
    wanted = [("loss", "training loss (nats)"), ("pos_loss", "validation loss (nats)")]
    wanted += [(key, f"validation {key.upper()}") for key in first if key.startswith(("hr@", "ndcg@"))]
    pictures = []
    for key, named in wanted:
        curves = {model: (record["history"], record["anchor_epoch" if "loss" in key else "best_epoch"])
                  for model, record in results.trainings.items() if key in record["history"][0]}
        if curves:
            said = "; ".join(f"{model} from {history[0][key]:.3f} to {history[-1][key]:.3f}, at the marked epoch {marked} "
                             f"{history[marked - 1][key]:.3f}" for model, (history, marked) in curves.items())
            pictures.append((f"curve_{key.split('@')[0]}", panels.learning_curves(curves, key, named),
                             f"{named} by epoch: {said}"))
    blocks = [figures(*pictures), text("Marked: in the losses the epoch of the lowest validation loss, up to which "
                                       "influences are taken; in the metrics the epoch that recommends.")]
    if MASKED_MODEL in results.trainings and _looked_at_validation(results):
        blocks.append(text("The mask was chosen on the validation items, so that what they say of the masked model is no "
                           "evidence."))
    return blocks


def _looked_at_validation(results):
    """Whether what decided has looked at the validation items."""
    if results.decisions is None:
        return False
    strategy = results.decisions.record["strategy"]
    return strategy != NONE and (strategy not in BASELINES or BASELINES[strategy].needs_model)


def influence(results, config):
    decisions = results.decisions
    if decisions is None or decisions.influence is None or not len(decisions.influence):
        return []
    series = {"on the validation item": decisions.influence, "expected on the next item": decisions.expected}
    shares = (0.01, 0.1, 0.5, 0.9, 0.99)
    quantiles = {name: np.quantile(values, shares) for name, values in series.items()}
    positive = {name: 100 * (values > 0).mean() for name, values in series.items()}
    said = "; ".join(f"{name}: from {q[0]:.2g} (1%) over {q[2]:.2g} (median) to {q[4]:.2g} (99%), {positive[name]:.0f}% "
                     "positive" for name, q in quantiles.items())
    rows = [(f"{100 * share:.0f}%", *(f"{q[k]:+.4f}" for q in quantiles.values())) for k, share in enumerate(shares)]
    rows.append(("positive", *(f"{value:.0f}%" for value in positive.values())))
    blocks = [figures(("influence", panels.histogram(series, "influence (nats)", "interactions (%)"),
                       f"Histogram of the influences: {said}")),
              table(["quantile", *series], rows, "Influences in nats. Positive: disclosing the interaction helps its user.")]
    correlation = [values["correlation"] for values in decisions.record.get("expectation", {}).values()]
    if correlation:
        blocks.append(text("The game goes by what is expected on the next item; one step back in time, where the next item "
                           f"is known, it correlates to {correlation[-1]:.2f} with the influence on that item."))
    return blocks


def disclosed(results, config):
    decisions = results.decisions
    if decisions is None or not len(decisions.disclosed):
        return []
    edges, share, count = metrics.disclosed_by_unwillingness(decisions.unwillingness, decisions.disclosed)
    said = ", ".join(f"{edges[k]:.1f} to {edges[k + 1]:.1f}: {100 * share[k]:.0f}%" for k in np.flatnonzero(count))
    pictures = [("by_unwillingness", panels.shares_by_unwillingness(edges, share),
                 f"Disclosed share by unwillingness: {said}")]
    blocks = []
    genres = _genres(results)
    if genres is not None:
        number, kept = (np.bincount(results.dataset.item, weights, results.dataset.num_items) @ genres.to_numpy()
                        for weights in (None, decisions.disclosed))
        known = number > 0
        rows = sorted(zip(genres.columns[known], number[known], 100 * kept[known] / number[known]), key=lambda row: -row[2])
        pictures.append(("by_genre", panels.shares_by_name([row[0] for row in rows], [row[2] for row in rows],
                                                                 100 * decisions.disclosed.mean()),
                         "Disclosed share by genre: " + ", ".join(f"{name} {value:.0f}%" for name, _, value in rows)))
        blocks.append(table(["genre", "interactions", "disclosed"], [(name, f"{n:,.0f}", f"{value:.0f}%")
                                                                     for name, n, value in rows]))
    return [figures(*pictures), *blocks]


def _genres(results):
    """(num_items, genres) DataFrame of bool, of the most frequent genres; None if no genres are known."""
    listed = results.catalogue[GENRES]
    if (listed == "").all():
        return None
    one = listed.where(listed != "", "(none listed)").str.split("|").explode().map(lambda name: " ".join(name.split()))
    kept = one.value_counts().index[:MOST_GENRES]
    one = one.where(one.isin(kept), "(others)")
    return pd.crosstab(one.index, one).astype(bool)


def kinds(results, config):
    decisions, dataset = results.decisions, results.dataset
    if decisions is None or decisions.influence is None:
        return []
    genres = _genres(results)
    genres = pd.DataFrame({"any genre": np.ones(dataset.num_items, bool)}) if genres is None else genres
    popularity = np.bincount(dataset.item, minlength=dataset.num_items)
    place = np.argsort(np.argsort(-popularity, kind="stable"), kind="stable") / max(dataset.num_items, 1)
    level = np.searchsorted([end for end, _ in POPULARITY], place, side="right").clip(max=len(POPULARITY) - 1)
    found = []
    for k, (_, name) in enumerate(POPULARITY):
        of_level = level[dataset.item] == k
        items, values, kept = dataset.item[of_level], decisions.influence[of_level], decisions.disclosed[of_level]
        for genre in genres:
            chosen = genres[genre].to_numpy()[items]
            if chosen.sum() >= LEAST_OF_KIND:
                v = values[chosen]
                found.append((f"{genre}, {name}", len(v), v.mean(), v.std(ddof=1) / np.sqrt(len(v)), (v > 0).mean(),
                              kept[chosen].mean()))
    if not found:
        return []
    found.sort(key=lambda row: -row[2])
    header = ["kind", "number", "mean influence", "positive", "disclosed"]

    def shown(rows):
        return [(name, f"{n:,}", f"{1e3 * mean:+.2f} ± {1e3 * error:.2f}", f"{100 * positive:.0f}%", f"{100 * kept:.0f}%")
                for name, n, mean, error, positive, kept in rows]

    best, worst = found[:KINDS], found[::-1][:KINDS]
    return [table(header, shown(best), f"Most helpful of {len(found)} kinds, by the mean influence on the user's "
                                       "validation item, in thousandths of a nat, with its standard error."),
            table(header, shown(worst), "Least helpful, or most harmful."),
            text(f"A kind: a genre and how popular the item is (of the items, {POPULARITY[0][1]}, {POPULARITY[1][1]}, or "
                 f"{POPULARITY[2][1]}, by number of interactions); kinds with at least {LEAST_OF_KIND} interactions. An "
                 "interaction with several genres counts in each.")]


def changes(results, config):
    if _pair(results) is None:
        return []
    plain, masked = results.users[PLAIN_MODEL], results.users[MASKED_MODEL]
    change = (masked["loss"] - plain["loss"]).to_numpy()
    hit = {name: (users["rank"] < results.top_k).to_numpy() for name, users in (("before", plain), ("after", masked))}
    length = np.bincount(results.dataset.user, minlength=results.dataset.num_users)
    edges = np.unique(np.quantile(length, np.linspace(0, 1, GROUPS + 1)))
    group = np.clip(np.searchsorted(edges, length, side="right") - 1, 0, max(len(edges) - 2, 0))
    rows = []
    for name, chosen in [("all", np.ones(len(change), bool)), *((None, group == g) for g in range(max(len(edges) - 1, 1)))]:
        if chosen.any():
            rows.append((name or f"{length[chosen].min()} to {length[chosen].max()} interactions", f"{chosen.sum():,}",
                         f"{change[chosen].mean():+.4f}", f"{100 * (change[chosen] > 0).mean():.0f}%",
                         f"{hit['after'][chosen].mean() - hit['before'][chosen].mean():+.3f}"))
    gained, lost = ((hit["after"] & ~hit["before"]).mean(), (hit["before"] & ~hit["after"]).mean())
    ends = np.quantile(change, (0.05, 0.5, 0.95))
    return [figures(("change", panels.histogram({"change": change}, "change of a user's loss (nats)", "users (%)"),
                     f"Change of the loss per user: 5% gain more than {-ends[0]:.3f}, the median is {ends[1]:+.4f}, 5% lose "
                     f"more than {ends[2]:.3f} nats")),
            table(["users by history", "number", "loss change", "worse off", f"HR@{results.top_k} change"], rows,
                  "Masked against plain; left of 0 in the picture is better."),
            text(f"{100 * gained:.1f}% of the users have their test item among the first {results.top_k} only after, "
                 f"{100 * lost:.1f}% only before. Chance alone, another seed, makes about half of all users worse off.")]


def limits(results, config):
    record = results.decisions.record if results.decisions is not None else None
    evaluated = next(iter(results.evaluations.values()))
    lines = [f"Each model was trained once (seed {evaluated['seed']}). The intervals are over users, not over trainings; "
             "--seeds repeats training and evaluation, scripts/run_tradeoff.sh compares over seeds."]
    if not any(key.startswith("full_") for key in evaluated):
        lines.append(f"The test item is ranked among {evaluated['num_candidates'] - 1} other candidates, which is easier "
                     "than ranking the whole catalogue: --eval_mode full.")
    if config.dataset == "simulation":
        lines.append("The dataset is simulated; no figure here is about people.")
    if record is None:
        return [bullets(*lines)]
    if _looked_at_validation(results):
        lines.append("What decided has looked at each user's validation item, just before the test item. What comes long "
                     "after may gain less; the control `none+validation` (trade-off study) shows what that item itself is "
                     "worth.")
    source = {"uniform": "drawn at random", "constant": "set to the same for all", "ratings": "derived from the ratings",
              "genres": "derived from genres"}
    if record["unwillingness"] in source:
        stated = " where the rules state no other." if record.get("willingness_file") else ": nobody stated it."
        lines.append(f"Unwillingness was {source[record['unwillingness']]}{stated}")
    lines.append("The plain model was trained on everything, also on what users withhold. Held-out items stay in the masked "
                 "dataset for the evaluation.")
    if not Rule(results.decisions).played:
        lines.append("A baseline decided; there are no influences, and no price.")
        return [bullets(*lines)]
    lines.append("Influences are first-order predictions of what retraining would do, made from the plain model"
                 + ("" if record["count_others"] else ", for the interaction's own user only")
                 + "; scripts/run_fidelity.sh measures how well they predict it.")
    lines.append("The reward joins a mean over many candidates with a price that the game weighs against one item: it "
                 "compares masks at one price, and is no measure of satisfaction.")
    return [bullets(*lines)]


# id, title, function of Results and settings that returns the blocks, none if there is nothing to say
SECTIONS = (("summary", "In short", summary), ("comparison", "Both models", comparison),
            ("run", "What was run", what_was_run), ("tradeoff", "The trade-off", tradeoff),
            ("training", "Training", training), ("influence", "Influences", influence),
            ("disclosed", "What is disclosed", disclosed), ("kinds", "Kinds of interaction", kinds),
            ("users", "Who gains, who pays", changes),
            ("limits", "What these figures do not show", limits))
