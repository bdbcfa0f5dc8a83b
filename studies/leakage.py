"""What the leakage audit has found, as tables and remarks, for audit.md."""

# by part: title, and by series its key in a strategy's record and its name
PARTS = {
    "reinference": ("withheld items guessed", {"own": "own model", "full": "model of everything",
                                               "popularity": "popularity alone"}),
    "membership": ("membership by score", {"disclosed_withheld": "disclosed, withheld",
                                           "disclosed_withheld_full": "the same, model of everything",
                                           "withheld_untouched": "withheld, untouched",
                                           "disclosed_untouched": "disclosed, untouched"}),
    "taste": ("withheld genres from disclosed ones", {"own": "own mask", "matched": "as many at random"}),
}
EXPLAINED = {
    "reinference": "Re-inference: share of the untouched items (of {negatives} a user) that score below a withheld item, "
                   "mean over users; by the model that never saw the withheld items, by the model of everything, which was "
                   "trained on them, and by how often others disclose an item.",
    "membership": "Membership: does the score of one kind of pair exceed that of another? Pairs are of the same users, in "
                  "equal numbers. Disclosed against withheld under the model of everything is what the choice of the mask "
                  "alone gives, since that model was trained on both.",
    "taste": "Taste: whether a genre's share among what a user withholds is above the median of the users, by logistic "
             "regression from the genres that they disclose, 5-fold cross-validation, mean over genres. Beside it a mask "
             "that withholds as many interactions of each user at random, which shows what tastes alone give.",
}
INTERVALS = ("AUC: .5 is chance, 1 is certainty. In brackets 95% intervals, from a bootstrap over users, for one training "
             "of each model.")


def series_of(record, part):
    """By name of the series of a part, by strategy the dict with auc and interval; without what was skipped."""
    series = {}
    for key, name in PARTS[part][1].items():
        if found := {strategy: row[part][key] for strategy, row in record["strategies"].items() if row[part].get(key)}:
            series[name] = found
    return series


def tables(record):
    """A list of header, rows and caption for each part that was not skipped."""
    rows = [(strategy, f"{100 * row['wv_share']:.0f}%", f"{100 * row['disclosed_share']:.0f}%", f"{row['withheld']:,}",
             f"{row['users_without_disclosed']:,}") for strategy, row in record["strategies"].items()]
    found = [(["strategy", "wv", "disclosed", "withheld", "users with nothing disclosed"], rows, INTERVALS)]
    for part, (title, _) in PARTS.items():
        if series := series_of(record, part):
            rows = [(strategy, *(_shown(values.get(strategy)) for values in series.values()))
                    for strategy in record["strategies"] if any(strategy in values for values in series.values())]
            found.append(([f"{title}: AUC", *series], rows, EXPLAINED[part].format(**record)))
    return found


def _shown(found):
    if not found:
        return ""
    return f"{found['auc']:.3f}" + (f" ({_range(found['interval'])})" if found["interval"] else "")


def _range(interval, form=".3f"):
    return " to ".join(f"{end:{form}}" for end in interval)


def _differences(guessed, other):
    return "; ".join(f"{strategy} {row[f'own_less_{other}']['difference']:+.3f} "
                     f"({_range(row[f'own_less_{other}']['interval'], '+.3f')})" for strategy, row in guessed.items())


def remarks(record):
    """What the figures mean, and what was left out and why, as sentences."""
    lines = []
    guessed = {strategy: row["reinference"] for strategy, row in record["strategies"].items()
               if "own" in row["reinference"]}
    if guessed:
        low, high = (f"{end(row['own']['auc'] for row in guessed.values()):.2f}" for end in (min, max))
        chance = 100 * record["top_k"] / (1 + record["negatives"])
        listed = "; ".join(f"{strategy} {100 * row['own']['listed']:.0f}%" for strategy, row in guessed.items())
        lines.append(f"What is withheld stays guessable: AUC {low if low == high else f'{low} to {high}'} by models that "
                     "were never trained on it, since what users disclose resembles what they withhold, and popular items "
                     "are likely anyway. Withholding keeps an interaction out of the training; it does not hide a taste.")
        lines.append(f"Share of the withheld items that would stand among the first {record['top_k']} of "
                     f"{1 + record['negatives']} (chance: {chance:.0f}%): {listed}.")
        lines.append(f"Own model less model of everything, on the same pairs: {_differences(guessed, 'full')}. This is what "
                     "withholding takes from the guesses.")
        lines.append(f"Own model less popularity alone: {_differences(guessed, 'popularity')}. Whoever guesses may go by "
                     "either, or by both, so the better of the two is what is known of a user at least.")
        lines.append("Strategies withhold different items, so compare the columns of a row first, and rows only with the "
                     "columns that are no attack (popularity, model of everything, as many at random).")
    return lines + [f"Skipped: {title}: {record['skipped'][part]}." for part, (title, _) in PARTS.items()
                    if part in record["skipped"]]
