"""How unwilling each user is to have each of their interactions used: b in [0, 1].

The sources (`unwillingness`) are uniform on [0, 1] by seed; constant; ratings, from 0 for the best to 1 for the worst that
occurs; genres, the rarer in the user's own history the more unwilling; file, `unwillingness.csv` beside the dataset. A
`willingness_file` states rules over any of these: a CSV with the column unwillingness and some of user_id, item_id, genre,
since and until, where an empty field, like a missing column, stands for all; or a receipt, see receipts.py. Of the rules
that an interaction meets the most specific wins, see Rules.match.
"""
import difflib

import numpy as np
import pandas as pd

from ..common.columns import numbers
from ..common.errors import InputError, logger
from ..common.share import here
from ..common.stored import stored
from ..common.tables import existing_file, read_table
from ..common.variant import dataset_files, dataset_folder, ratings_path
from ..config import Config
from ..constants import GENRE, ITEM, MOVIES_FILE, RATING, RATINGS_FILE, UNWILLINGNESS, UNWILLINGNESS_FILE, USER
from ..history import History
from ..sources.catalogue import genres_of
from ..sources.interactions import Interactions, read_interactions
from ..stat_utils import generator, parts, spans
from .rules import ALL, NAMED, NOTHING, UNKNOWN, Rules, listed, refuse
from .withdrawn import withdrawn_path

_SHOWN = 5  # faults in a message


def unwillingness_files(config):
    """Paths of the files that the settings take unwillingness from, the `willingness_file` last; all must be there."""
    source = unwillingness_source(config)
    name = {"file": UNWILLINGNESS_FILE, "ratings": RATINGS_FILE, "genres": MOVIES_FILE}.get(source)
    remedy = f"--unwillingness {source} needs it; choose another"
    files = [existing_file(stored(dataset_folder(config) / name), remedy)] if name else []
    if config.willingness_file:
        remedy = f"give a CSV with {UNWILLINGNESS} and some of {USER}, {ITEM} and {GENRE}"
        files.append(existing_file(config.willingness_file, remedy, "willingness_file"))
    return files


def data_files(config):
    """The files of the dataset and of its unwillingness, as inputs of a stage, each once."""
    record = [path] if (path := withdrawn_path(config)).exists() else []
    return list(dict.fromkeys([*dataset_files(config), *unwillingness_files(config), *record]))


def unwillingness_source(config):
    """Where unwillingness comes from; `auto` made definite."""
    if config.unwillingness != "auto":
        return config.unwillingness
    if config.willingness_file:
        return "willing"  # who states nothing has nothing against it
    return "file" if stored(dataset_folder(config) / UNWILLINGNESS_FILE).is_file() else "uniform"


def stated(data: Interactions, config: Config, whole: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """What is said of interactions by themselves: by a file, rules, ratings or a constant.

    data, whole: Interactions, or a Dataset; whether they are all of the dataset, held-out ones too.
    Returns value: (n,) float64 in [0, 1], how unwilling; NaN where that depends on the history, or nobody has said it;
        line: (n,) int32, of the `willingness_file`; with a minus that of the file beside the dataset; 0 for none.
    Raises InputError: a file is missing, lacks what it must have, or has a value outside [0, 1]: the message names the line.
    """
    source, n, files = unwillingness_source(config), data.num_interactions, unwillingness_files(config)
    value, line = np.full(n, np.nan), np.zeros(n, np.int32)
    if source == "file":
        for _ in _apply(files[0], (USER, ITEM), data, config, value, line):
            pass
        line *= -1
    elif source == "ratings":
        value = _by_rating(data, config)
    elif source in ("willing", "constant"):
        value[:] = 0 if source == "willing" else config.unwillingness_value
    if config.willingness_file:
        kind = "interaction" if whole else "training interaction"
        for rules, met in _apply(files[-1], (), data, config, value, line):
            _name_unmet(rules, ~met, data, config, whole, kind)
        logger.info("%s: states the unwillingness of %s of %s %ss; the rest: %s", config.willingness_file,
                    *(f"{here().total(number):,}" for number in ((line > 0).sum(), n)), kind,
                    "0" if source == "willing" else source)
    value[value < NOTHING] = 0
    return value, line


def check_rules(config: Config) -> None:
    """Raises InputError if rules, or genres, cannot state the unwillingness of the dataset that is there."""
    if config.willingness_file:
        stated(read_interactions(config), config, whole=True)
    elif config.unwillingness == "genres":
        genres_of(read_interactions(config), config)


def _apply(path, needed, data, config, value, line):
    """Writes what the rules of a file say into `value` and `line` (n,); yields parts of them, and which of each are met."""
    decided = np.full(len(value), -1, np.int8)  # the level of the rule that has decided
    for rules in Rules.read(path, data, config, (*needed, UNWILLINGNESS)):
        level, users, span = rules.level, rules.names[0][rules.sought], slice(0, len(value))
        if len(users) and users.min() >= 0:
            span = data.history.of_span(slice(users.min(), users.max() + 1))
        decides, met = rules.match(data.some(span))
        place = np.flatnonzero(decides >= 0)
        rule, place = decides[place], place + span.start
        named = np.vstack([rules.names, rules.bounds]) if (level % 2).any() else rules.names
        again = pd.DataFrame(named.T).duplicated().to_numpy() & rules.sought
        # of another part only where it decides
        again[rule[(decided[place] == level[rule]) & (level[rule] % 4 == 0)]] = True
        refuse(again, path, "repeats the rule of an earlier line; remove it", rules.line)
        wins = ~(2 * level[rule] + rules.value[rule] < 2 * decided[place] + value[place])
        rule, place = rule[wins], place[wins]
        value[place], line[place], decided[place] = rules.value[rule], rules.line[rule], level[rule]
        yield rules, here().either(met)


def _name_unmet(rules, unmet, data, config, whole, kind):
    """Names the rules that meet nothing, `unmet` (r,) bool; under --veto, which may lose none, wrong ones are an error."""
    unknown, (user, item, genre) = rules.names == UNKNOWN, rules.names != ALL
    wrong = unmet & (unknown.any(0) | whole & item & (user | genre))  # the others may come yet
    some = config.newcomers or config.update  # of all interactions there are; a user may be in another file
    if some:
        wrong &= ~unknown[0]
    refused = config.veto and whole and wrong.any()
    lines = rules.line[wrong if refused or some else unmet]
    if not len(lines):
        return
    faults = dict.fromkeys(_fault(rules, row, data) for row in np.flatnonzero(wrong)[:_SHOWN])
    said = f"{config.willingness_file}: line {listed(lines)}: meets no {kind}{': ' * bool(faults)}{', '.join(faults)}"
    if refused:
        raise InputError(f"{said}; correct or remove what is wrong, since under --veto no rule may be lost")
    logger.warning("%s%s", said, "" if whole else " (held-out ones are never trained on; --veto keeps them out of all use)")


def _fault(rules, row, data):
    names = data.all_user_ids, data.item_ids, rules.genres[1] if rules.genres else ()
    for column, place, known in zip(NAMED, rules.names[:, row], names):
        if place == UNKNOWN:
            text = rules.said(row)[column]
            near = difflib.get_close_matches(text, map(str, known), 1)
            return f"no {column.removesuffix('_id')} {text!r}" + "".join(f" (did you mean {name}?)" for name in near)
    return "no such pair" + " in that time" * bool(np.isfinite(rules.bounds[:, row]).any())


def load_stated(dataset, config: Config) -> tuple[np.ndarray, np.ndarray]:
    """What `stated` says of the training interactions of a Dataset, without NaN: what the file lacks is an InputError."""
    value, line = stated(dataset, config) if dataset.stated is None else (dataset.stated[0].copy(), dataset.stated[1])
    missing = np.isnan(value)
    if not missing.any():
        return value, line
    source = unwillingness_source(config)
    if source == "file":
        k, path = int(missing.argmax()), stored(dataset_folder(config) / UNWILLINGNESS_FILE)
        user, item = dataset.user_ids[dataset.user[k]], dataset.item_ids[dataset.item[k]]
        raise InputError(f"{path}: lacks {missing.sum()} training interactions, e.g. user {user}, item {item}; add a row "
                         "for each")
    if source == "genres":
        value[missing] = _by_genre(dataset, config)[missing]
    else:  # the draws of an interaction stay its own when others are left out
        place, rng = dataset.share.places(dataset.place), generator(config.seed, "unwillingness")
        for part in parts(len(value) if place is None else int(place.max(initial=-1)) + 1):
            drawn = rng.random(part.stop - part.start)
            if place is not None:
                start, part = part.start, slice(*np.searchsorted(place, np.array([part.start, part.stop], place.dtype)))
                drawn = drawn[place[part] - start]
            np.copyto(value[part], drawn, where=missing[part])
    value[value < NOTHING] = 0
    return value, line


def _by_rating(data, config):
    path = ratings_path(config)
    table = read_table(path, [RATING], extra="quiet")
    rating = numbers(table[RATING], path, RATING) if RATING in table else np.zeros(1)
    if np.ptp(rating) == 0:
        raise InputError(f"{dataset_folder(config) / RATINGS_FILE}: has no column {RATING} with different numbers, which "
                         "--unwillingness ratings needs; choose another")
    return ((rating.max() - rating) / np.ptp(rating))[data.rows]


def _by_genre(dataset, config):
    """(n,) 1 minus the mean share of the interaction's genres in its user's history."""
    pairs, names = genres_of(dataset, config)
    of_item, genre = History(pairs[ITEM].to_numpy(), dataset.num_items), pairs[GENRE].to_numpy()
    history, value = dataset.history, np.empty(dataset.num_interactions)
    for users in spans(history.length):  # whole users, since shares are those of a history
        part = history.of_span(users)
        user, item = dataset.user[part], dataset.item[part]
        number = of_item.length[item]
        row = np.repeat(np.arange(len(item)), number)
        key = user[row].astype(np.int64) * len(names) + genre[of_item.of_users(item)]
        _, place, count = np.unique(key, return_inverse=True, return_counts=True)
        value[part] = 1 - np.bincount(row, count[place] / history.length[user[row]], len(item)) / number
    return np.clip(value, 0, 1)
