"""What unwillingness as people have it costs or gains, and whom. Started by scripts/run_people.sh.

Users mind in several ways. Strategies decide at wv_budget; where something is hidden, at unwillingness 1, also all else is
disclosed, as --veto would have it. Models trained on each mask are compared with one trained on everything: for all users,
those who hide something and those who do not or, where all or none do, the halves that mind more and less.
"""
import numpy as np
import pandas as pd

from src.common.errors import InputError
from src.common.figures import GREY, picture
from src.common.files import atomic_write
from src.common.stage import main
from src.common.terminal import counted
from src.consent.unwillingness import load_stated
from src.constants import GENRE, ITEM, UNWILLINGNESS, USER
from src.dataset import load_dataset
from src.game.strategies import ASK_FIRST, IFRQE, NONE
from src.sources.catalogue import genres_of
from src.stat_utils import generator

from .grid import Study, averages, names_of, needs_validation, seeds_of
from .masks import OTHER_STYLE, RANK, STYLES, Masks, masks_of_seed, quality

OWN = {"people_kinds": ("str", "uniform,mixed,genre,ratings,rarity,some", "ways in which users mind, separated by commas")}
KINDS = {"uniform": "uniform", "mixed": "uniform", "genre": "auto", "ratings": "ratings", "rarity": "auto", "some": "auto"}
# by kind the option `unwillingness`; with auto nobody minds what no rule of `stated` is about
EXTREME, SOME = 0.1, 0.05  # the share of users who never mind, and who mind everything; of interactions that are hidden
PLAYED, NOT_HIDDEN = ("threshold", IFRQE, ASK_FIRST), "not hidden"
RANKS = "", "full_", "personal_"  # with which names of columns begin, as Masks.trained has them from RANK on


def people(config):
    """The study on the dataset that the settings name; writes people.csv, .md and .png.

    Raises:
        InputError: an unknown kind, or one that needs what the dataset has not; or unwillingness of one's own.
    """
    needs_validation(config)
    kinds = names_of(config, "people_kinds", "kind", KINDS, files=False)
    for option in sorted({"unwillingness", "willingness_file", "veto"} & config.given):
        raise InputError(f"--{option}: the study itself says what users mind, see --people_kinds; leave it out")
    config = config.replace(unwillingness="uniform", willingness_file="", veto=False)
    study, seeds, rows, dataset = Study("people", __name__, config), seeds_of(config), [], load_dataset(config)
    try:
        minds = {(seed, kind): stated(study, dataset, kind, seed) for seed in seeds for kind in kinds}
    except InputError as e:
        raise InputError(f"--people_kinds {','.join(kinds)}: {e}") from e
    for seed in seeds:
        plain = masks_of_seed(study, seed, PLAYED)  # trains for all kinds, since a training knows of none
        for kind in kinds:
            rows += rows_of(kind, plain, Masks(study, plain.config.replace(**minds[seed, kind]), True, kind))
    table, title = pd.DataFrame(rows).round(6), f"{config.dataset}: {config.wv_budget:.0%}, {counted(len(seeds), 'seed')}"
    users = table.groupby(["kind", "group"]).users.transform("mean").map(" ({:.0f})".format)
    shown = table.assign(group=table.group + users).rename(columns=lambda name: name.removesuffix("_share"))
    names = ["wv", "disclosed", "hidden", *(name for name in table if name.endswith(f"hr@{config.top_k}"))]
    text = f"{title}\n\n{averages(shown, ['kind', 'group', 'point'], dict(zip(names, names)))}"
    study.publish(table, text, plot, table, f"gain_hr@{config.top_k}", title)


def stated(study, dataset, kind, seed):
    """The settings under which users mind in one way; refuses what the data do not have, and leaves rules in a file."""
    config, path = study.config.replace(seed=seed, unwillingness=KINDS[kind]), study.folder / kind / f"rules_{seed}.csv"
    rng, user, item, rules = generator(seed, "people", kind), dataset.user, dataset.item, None
    if kind == "mixed":
        extreme = rng.permutation(dataset.user_ids)[:2 * round(EXTREME * dataset.num_users)]
        rules = {USER: extreme, UNWILLINGNESS: np.arange(len(extreme)) % 2}
    elif kind == "genre":  # one or two of those in the user's history
        pairs, names = genres_of(dataset, config)
        own = pd.DataFrame({USER: user, ITEM: item}).merge(pairs, on=ITEM)[[USER, GENRE]].drop_duplicates()
        own, number = own.iloc[rng.permutation(len(own))], rng.integers(1, 3, dataset.num_users)
        own = own[own.groupby(USER).cumcount() < number[own[USER]]]
        rules = {USER: dataset.user_ids[own[USER]], GENRE: names[own[GENRE]], UNWILLINGNESS: 1}
    elif kind == "rarity":  # by the rank of the item's popularity, uniform over interactions
        rank = pd.Series(-np.bincount(item)[item]).rank()
        rules = {ITEM: dataset.item_ids[item], UNWILLINGNESS: (rank - 0.5) / len(rank)}
    elif kind == "some":
        place = np.flatnonzero(rng.random(len(item)) < SOME)
        rules = {USER: dataset.user_ids[user[place]], ITEM: dataset.item_ids[item[place]], UNWILLINGNESS: 1}
    if rules:
        with atomic_write(path) as temporary:
            pd.DataFrame(rules).drop_duplicates().to_csv(temporary, index=False)
        config = config.replace(willingness_file=str(path))
    load_stated(dataset, config)
    return {"unwillingness": KINDS[kind], "willingness_file": config.willingness_file}


def rows_of(kind, plain, masks):
    """The rows of a kind and seed in people.csv: all points, of everybody and of each group."""
    b, dataset, config, rows = masks.problem.unwillingness, masks.dataset, masks.config, []
    runs = masks.decided([(NONE, 1.0), *((name, config.wv_budget) for name in PLAYED)], "wv_budget")
    points = [*zip(runs.strategy, runs.disclosed), *([(NOT_HIDDEN, b < 1)] if (b == 1).any() else [])]
    values = plain.trained(pd.DataFrame(points, columns=["strategy", "disclosed"]))
    hidden, minded = (dataset.history.sums(weight) for weight in (b == 1, b / dataset.history.each(dataset.history.length)))
    hide = hidden > 0 if 0 < (hidden > 0).mean() < 1 else minded > np.median(minded)
    groups = {"all": hide | ~hide, **({"hide": hide, "free": ~hide} if kind != "mixed" else {
        "mind everything": hide, "others": ~hide & (minded > 0), "never mind": minded == 0})}
    for group, users in groups.items():
        own, scored = dataset.history.each(users), users[dataset.scored]
        for (point, disclosed), value in zip(points, values) if scored.any() else ():
            shares = {f"{name}_share": weight[own & disclosed].sum() / weight[own].sum() if weight[own].any() else np.nan
                      for name, weight in (("wv", b), ("disclosed", b >= 0), ("hidden", b == 1))}
            shares["spent_share"] = max(shares["wv_share"], float(point == IFRQE))
            rows.append({"kind": kind, "point": point, "group": group, "seed": config.seed, "users": scored.sum(), **shares})
            for start, rank, base in zip(RANKS, value[RANK:], values[0][RANK:]):
                rows[-1] |= quality(rank[scored], config.top_k, start, base[scored])
    return rows


def plot(path, table, metric, title):
    """PNG of the gains: a panel for each kind, with bars for each group and point."""
    with picture(path, title, table.kind.nunique()) as panels:
        for axes, (kind, rows) in zip(panels, table[table.point != NONE].groupby("kind", sort=False)):
            for number, (point, runs) in enumerate(rows.groupby("point", sort=False)):
                mean = runs.groupby("group", sort=False)[[metric, f"{metric}_se"]].mean()
                axes.bar(np.arange(len(mean)) + 0.2 * number, mean[metric], 0.2, yerr=mean[f"{metric}_se"], label=point,
                         color=STYLES.get(point, OTHER_STYLE)[0], error_kw={"elinewidth": 0.8})
            axes.axhline(0, color=GREY, linewidth=0.8)
            axes.set(title=kind, ylabel=metric, xticks=np.arange(len(mean)) + 0.3, xticklabels=mean.index)
        panels[-1].legend(frameon=False, fontsize="small")


if __name__ == "__main__":
    main(people, "run_people", __doc__, own=OWN)
