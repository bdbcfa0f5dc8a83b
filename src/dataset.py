"""Leave-one-out split, training groups and evaluation candidates of a dataset folder.

The last interaction of each user is her test item, the second-last her validation item, all before them her history.
With `holdout` 1, as in the NCF literature, the history takes in the second-last too and there is no validation item; with
3 or more there are several validation items, of which the last chooses epochs.
"""
import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from .config import DEFAULT_CONFIG, load_yaml
from .constants import (
    DATASET_FILE,
    FILTER_KEYS,
    GENRES,
    HOLDOUT,
    ITEM,
    MASKED_PREFIX,
    MOVIE_COLUMNS,
    MOVIES_FILE,
    RATINGS_FILE,
    SIMULATION,
    SIMULATION_KEYS,
    TIMESTAMP,
    USER,
)
from .errors import InputError
from .stage import read_json
from .stat_utils import PairSet, generator, sample_distinct_outside, sample_outside
from .terminal import read_with_progress

_ANEW = "make the dataset anew with scripts/run_download_dataset.sh --overwrite"


@dataclass
class Dataset:
    """Interactions with 0-based ids, split by time.

    user, item: (n,) int32, the training interactions, by user and in order of time within a user.
    validation, test: (num_users,) int32, the held-out items; validation is None if only one item is held out.
    earlier: (num_users, holdout - 2) int32, the validation items before the last, latest first; None if there are none.
    user_ids, item_ids: original ids; position k is user or item k.
    held_out: (num_users, holdout) int64, rows of ratings.csv that hold the validation items (if any) and the test item.
    rows: (n,) int64, rows of ratings.csv of the training interactions.
    """
    name: str
    user: np.ndarray
    item: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    user_ids: np.ndarray
    item_ids: np.ndarray
    held_out: np.ndarray
    rows: np.ndarray
    earlier: np.ndarray = None

    @property
    def num_users(self):
        return len(self.user_ids)

    @property
    def num_items(self):
        return len(self.item_ids)

    @property
    def num_interactions(self):
        """Training interactions."""
        return len(self.user)

    def part(self, kept):
        """The Dataset with some of the training interactions, `kept` (n,) bool."""
        return dataclasses.replace(self, user=self.user[kept], item=self.item[kept], rows=self.rows[kept])

    def history_pairs(self):
        """PairSet of the training interactions, which training negatives avoid."""
        return PairSet(self.user, self.item, self.num_users, self.num_items)

    def validations(self):
        """(num_users, holdout - 1) int32: all validation items, latest first."""
        columns = [] if self.validation is None else [self.validation[:, None]]
        if self.earlier is not None:
            columns.append(self.earlier)
        return np.concatenate(columns, 1) if columns else np.zeros((len(self.test), 0), np.int32)

    def all_pairs(self):
        """PairSet of all interactions, held-out ones included, which evaluation negatives avoid."""
        held_out = [self.test, *self.validations().T]
        everyone = np.arange(self.num_users, dtype=np.int32)
        return PairSet(np.concatenate([self.user, *[everyone] * len(held_out)]), np.concatenate([self.item, *held_out]),
                       self.num_users, self.num_items)


def dataset_folder(config, masked=False):
    """Folder of the dataset that the settings name, or of its masked twin."""
    return Path(config.data_path) / (MASKED_PREFIX * masked + config.dataset)


def ratings_path(config, masked=False):
    """Path of ratings.csv; raises InputError with the command that makes it if it is missing."""
    path = dataset_folder(config, masked) / RATINGS_FILE
    if not path.is_file():
        command = "preprocess.py" if masked else f"scripts/run_download_dataset.sh --dataset {config.dataset}"
        raise InputError(f"{path}: no such file; make it with {command} first, or set --data_path")
    return path


def dataset_files(config, masked=False):
    """The files that a dataset consists of, as inputs of a stage."""
    ratings = ratings_path(config, masked)
    movies = ratings.with_name(MOVIES_FILE)
    return [ratings, movies] if movies.exists() else [ratings]


def load_dataset(config, masked=False):
    """Reads and splits the dataset that the settings name, or its masked twin.

    Ties in time are broken by the order of the rows. The items are those of movies.csv, so that a masked dataset has
    the items of the original even where no disclosed interaction is left; without movies.csv, those that occur.

    Raises:
        InputError: a file is missing or wrong, a user has fewer than two interactions, or an option contradicts what
            the dataset was made with.
    """
    path = ratings_path(config, masked)
    _check_record(path.with_name(DATASET_FILE), config)
    holdout = config.holdout
    types = _text_ids(path.with_name(DATASET_FILE))
    ratings = _read(path, [USER, ITEM, TIMESTAMP], types)
    if len(ratings) == 0:
        raise InputError(f"{path}: holds no ratings; {_ANEW}")
    repeated = ratings.duplicated([USER, ITEM])
    if repeated.any():
        first = ratings[repeated].iloc[0]
        raise InputError(f"{path}: user {first[USER]} has item {first[ITEM]} more than once; remove the repeated row")
    catalogue = path.with_name(MOVIES_FILE)
    items = _read(catalogue, [ITEM], types)[ITEM] if catalogue.exists() else ratings[ITEM]
    if items.dtype != ratings[ITEM].dtype:
        raise InputError(f"{catalogue}: its item ids are of another type than those of {RATINGS_FILE}; {_ANEW}")
    user_ids, user = np.unique(ratings[USER].to_numpy(), return_inverse=True)
    item_ids = np.unique(items.to_numpy())
    item = np.minimum(np.searchsorted(item_ids, ratings[ITEM].to_numpy()), len(item_ids) - 1)
    unknown = item_ids[item] != ratings[ITEM].to_numpy()
    if unknown.any():
        raise InputError(f"{catalogue}: lacks item {ratings[ITEM][unknown].iloc[0]} of {RATINGS_FILE}; "
                         "add its row, or remove the file if the catalogue does not matter")
    order = np.lexsort((ratings[TIMESTAMP].to_numpy(), user))
    user, item = user[order].astype(np.int32), item[order].astype(np.int32)
    last = np.flatnonzero(np.r_[user[1:] != user[:-1], True])
    least = max(2, holdout)
    lone = np.diff(last, prepend=-1) < least
    if lone.any():
        raise InputError(f"{path}: user {user_ids[lone][0]} has fewer than {least} interactions, but test and validation "
                         "items are held out of each user; remove such users (the data stage does, by min_ratings)")
    held_out = [last - k for k in reversed(range(holdout))]
    in_history = np.ones(len(user), bool)
    for places in held_out:
        in_history[places] = False
    return Dataset(MASKED_PREFIX * masked + config.dataset, user[in_history], item[in_history],
                   item[last - 1] if holdout > 1 else None, item[last], user_ids, item_ids,
                   order[np.stack(held_out, 1)], order[in_history],
                   np.stack([item[last - k] for k in range(2, holdout)], 1) if holdout > 2 else None)


def load_catalogue(dataset, config):
    """DataFrame with title and genres (joined by "|") of each item, in the order of dataset.item_ids.

    What movies.csv does not say is ""; a title is then "item" and the item's id.
    """
    path = dataset_folder(config) / MOVIES_FILE
    known = pd.DataFrame(columns=MOVIE_COLUMNS)
    if path.is_file():
        options = id_types(dataset)
        # a title may be "None" or "NA"
        known = pd.read_csv(path, **{**options, "dtype": {**options["dtype"], "title": str, GENRES: str},
                                     "keep_default_na": False}).drop_duplicates(ITEM)
    found = known.reindex(columns=MOVIE_COLUMNS).set_index(ITEM).reindex(dataset.item_ids).fillna("").astype(str)
    title, genres = (found[column].str.strip().to_numpy() for column in MOVIE_COLUMNS[1:])
    number = np.array([f"item {i}" for i in dataset.item_ids])
    return pd.DataFrame({"title": np.where(title == "", number, title), GENRES: genres})


def find_users(dataset, text, option):
    """Positions of the users whose original ids `text` lists, separated by commas.

    Raises:
        InputError: there is no such user; `option` is named.
    """
    place = {str(name): k for k, name in enumerate(dataset.user_ids)}
    if text.strip() in place:  # an id may hold a comma
        return np.array([place[text.strip()]])
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names or (unknown := [name for name in names if name not in place]):
        what = f"no user {unknown[0]!r} in" if names else "names no user of"
        raise InputError(f"--{option} {text}: {what} {dataset.name}; its {dataset.num_users:,} users have ids such as "
                         f"{', '.join(map(str, dataset.user_ids[:3]))}")
    return np.array([place[name] for name in dict.fromkeys(names)])


def original_id(ids, position):
    """An original id, of user_ids or item_ids, as JSON can hold it."""
    return ids[position].item() if isinstance(ids[position], np.generic) else ids[position]


def id_types(dataset):
    """Options of pandas.read_csv for a file with the ids of this dataset: text ids are read as the text that they are."""
    text = [name for name, ids in ((USER, dataset.user_ids), (ITEM, dataset.item_ids)) if ids.dtype.kind not in "iu"]
    return _read_options(text)


def _read_options(text_ids):
    return {"dtype": dict.fromkeys(text_ids, str), "keep_default_na": not text_ids, "low_memory": False}


def _text_ids(record):
    """The same for a dataset that is not read yet, from its dataset.json; without one pandas decides."""
    return _read_options(read_json(record, _ANEW).get("text_ids", []) if record.exists() else [])


def _read(path, columns, options):
    try:
        with open(path, "rb") as file, read_with_progress(file, path.stat().st_size, path.name) as file:
            table = pd.read_csv(file, usecols=lambda c: c in columns, **options)
    except pd.errors.EmptyDataError:
        raise InputError(f"{path}: is empty; {_ANEW}") from None
    except (pd.errors.ParserError, UnicodeDecodeError) as e:
        raise InputError(f"{path}: is no CSV file ({' '.join(str(e).split())}); {_ANEW}") from e
    for column in columns:
        if column not in table:
            raise InputError(f"{path}: has no column {column}; it needs {', '.join(columns)}")
        missing = (table[column].isna() if table[column].dtype != object else table[column].isin([np.nan, ""])).to_numpy()
        if missing.any():
            raise InputError(f"{path}: row {int(missing.argmax()) + 1} has no {column}; correct or remove the row")
        if column != TIMESTAMP and table[column].dtype == object:
            table[column] = table[column].astype(str)
    if TIMESTAMP in columns and len(table) and not pd.api.types.is_numeric_dtype(table[TIMESTAMP]):
        raise InputError(f"{path}: the column {TIMESTAMP} is not numeric; give seconds")
    return table


def masked_settings(config):
    """The settings that a masked dataset is trained and evaluated with: the control that trains on the validation items
    holds only the test item out. Others than masked ones stay as they are."""
    path = dataset_folder(config, masked=True) / DATASET_FILE
    if not config.masked or not path.exists():
        return config
    return config.replace(holdout=read_json(path, "run preprocess.py with --overwrite").get(HOLDOUT, config.holdout))


def _check_record(path, config):
    """An option of the data stage that is not at its default must agree with what the dataset was made with."""
    if not path.exists():
        return
    record = read_json(path, _ANEW)
    defaults = load_yaml(DEFAULT_CONFIG)[0]
    keys = FILTER_KEYS + (tuple(k for k in SIMULATION_KEYS if k != "seed") if config.dataset == SIMULATION else ())
    for key, value in config.select(keys).items():
        if value != defaults[key] and key in record and record[key] != value:
            raise InputError(f"--{key} {value}: but {path.parent} was made with {key}={record[key]}; make it anew with "
                             f"scripts/run_download_dataset.sh --dataset {config.dataset} --{key} {value}, "
                             "or leave the option out")


def training_groups(dataset, num_neg, rng, pairs=None, order=None):
    """Each positive of the history with fresh negatives.

    Args:
        dataset: Dataset.
        num_neg: negatives a positive.
        rng: NumPy generator.
        pairs: dataset.history_pairs(), if the caller has it.
        order: (n,) positives to take, as positions in the history; without it all in the order of the history.

    Returns:
        (n, 1 + num_neg) int32 items; column 0 is the positive, the others are no training positive of the user.

    Raises:
        InputError: a user has interacted with every item.
    """
    pairs = dataset.history_pairs() if pairs is None else pairs
    full = pairs.counts >= dataset.num_items
    if full.any():
        raise InputError(f"dataset {dataset.name}: user {dataset.user_ids[full][0]} has interacted with all "
                         f"{dataset.num_items} items, so no negative can be drawn for her; remove her or add items")
    user, item = (dataset.user, dataset.item) if order is None else (dataset.user[order], dataset.item[order])
    return np.concatenate([item[:, None], sample_outside(user, pairs, rng, num_neg)], axis=1)


def evaluation_candidates(dataset, held_out, config):
    """The items that each user's held-out item is ranked against.

    Drawn by seed from the items that the user never interacted with, all different; the negatives of the validation
    and of the test item are drawn independently. With `eval_negatives` those of the test item come from that file.

    Args:
        dataset: Dataset.
        held_out: "validation" or "test".
        config: num_eval_neg, eval_negatives, eval_item_list, seed.

    Returns:
        (num_users, 1 + num_eval_neg) int32 items; column 0 is the held-out item.

    Raises:
        InputError: a user has too few items left to draw from, or the file does not fit the dataset.
    """
    positive = getattr(dataset, held_out)
    if held_out == "test" and config.eval_negatives:
        negatives = read_negatives(config.eval_negatives, config.eval_item_list, dataset)
    else:
        pairs = dataset.all_pairs()
        left = dataset.num_items - pairs.counts
        if left.min() < config.num_eval_neg:
            raise InputError(f"--num_eval_neg {config.num_eval_neg}: user {dataset.user_ids[left.argmin()]} has only "
                             f"{left.min()} items that she did not interact with; set it to that or less")
        negatives = sample_distinct_outside(pairs, config.num_eval_neg, generator(config.seed, "candidates", held_out))
    return np.concatenate([positive[:, None], negatives], axis=1)


def read_negatives(path, item_list, dataset):
    """Reads test negatives in the NCF literature's format: a line `(user,item)<TAB>negative<TAB>...` for each user.

    Args:
        path: the file.
        item_list: file with a line `original item id<TAB>0-based id` for each item, if the file's ids are 0-based (its
            user k is then the dataset's k-th user by id); "" if the file holds original ids.
        dataset: Dataset whose test items the file must name.

    Returns:
        (num_users, negatives) int32 items.

    Raises:
        InputError: names the file and line that is wrong.
    """
    try:
        with open(path, encoding="utf-8") as file:
            rows = [re.split(r"[(),\s]+", line.strip())[1:] for line in file if line.strip()]
    except (OSError, UnicodeDecodeError) as e:
        raise InputError(f"--eval_negatives {path}: {getattr(e, 'strerror', None) or 'is no text'}; "
                         "give a file of lines (user,item)<TAB>negative<TAB>...") from e
    lengths = {len(row) for row in rows}
    if len(rows) != dataset.num_users or len(lengths) != 1 or lengths.pop() < 3:
        raise InputError(f"--eval_negatives {path}: needs a line (user,item)<TAB>negative<TAB>... for each of "
                         f"{dataset.num_users} users, with equally many negatives each; it has {len(rows)} lines")
    table = np.array(rows)
    if item_list:
        to_original = _read_item_list(item_list)
        try:
            user = table[:, 0].astype(np.int64)
            items = np.vectorize(to_original.__getitem__)(table[:, 1:])
        except (KeyError, ValueError) as e:
            raise InputError(f"--eval_negatives {path}: id {e} is not in --eval_item_list {item_list}; "
                             "use the list that belongs to the file") from None
        try:
            items = items.astype(dataset.item_ids.dtype)
        except ValueError:
            raise InputError(f"--eval_item_list {item_list}: holds ids that are no numbers, unlike {dataset.name}") from None
    else:
        try:
            items = table[:, 1:].astype(dataset.item_ids.dtype)
            user = _positions(dataset.user_ids, table[:, 0].astype(dataset.user_ids.dtype))
        except ValueError:
            raise InputError(f"--eval_negatives {path}: holds ids that are no numbers, unlike {dataset.name}") from None
    item = _positions(dataset.item_ids, items)
    for what, wrong in (("user", user), ("item", item)):
        if wrong.min() < 0 or what == "user" and not np.array_equal(np.sort(wrong), np.arange(dataset.num_users)):
            raise InputError(f"--eval_negatives {path}: names a {what} that {dataset.name} does not have, or not every user "
                             "once; give the file that belongs to this dataset (0-based ids need --eval_item_list)")
    candidates = np.empty((dataset.num_users, item.shape[1]), np.int32)
    candidates[user] = item
    differ = candidates[:, 0] != dataset.test
    if differ.any():
        k = int(differ.argmax())
        raise InputError(f"--eval_negatives {path}: has another test item than {dataset.name} for {differ.sum()} users, "
                         f"e.g. user {dataset.user_ids[k]}; give the file that belongs to this dataset")
    seen = dataset.history_pairs().contains(np.arange(dataset.num_users)[:, None], candidates)
    if seen.any():
        raise InputError(f"--eval_negatives {path}: {seen.sum()} candidates are training interactions of their user; "
                         "give the file that belongs to this dataset")
    return candidates[:, 1:]


def _read_item_list(path):
    try:
        pairs = np.loadtxt(path, dtype=str, ndmin=2)
    except (OSError, ValueError) as e:
        raise InputError(f"--eval_item_list {path}: {e}; give lines 'original id<TAB>0-based id'") from e
    if pairs.shape[1] != 2:
        raise InputError(f"--eval_item_list {path}: has {pairs.shape[1]} columns; give lines 'original id<TAB>0-based id'")
    return dict(zip(pairs[:, 1], pairs[:, 0]))


def _positions(ids, values):
    """Position of each value in the sorted array ids, -1 where it is not there."""
    place = np.minimum(np.searchsorted(ids, values), len(ids) - 1)
    return np.where(ids[place] == values, place, -1)
