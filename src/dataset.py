"""Leave-one-out split, training groups and evaluation candidates of a dataset folder.

The last interaction of each user is their test item, the second-last their validation item, all before them their history.
With `holdout` 1, as in the NCF literature, the history takes in the second-last too and there is no validation item. See
docs/maths.md, section 1.
"""
from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass

import numpy as np
import pandas as pd

from .common.columns import UNITS, clean_ids, in_order, numbers, positions, times
from .common.errors import InputError
from .common.files import read_json
from .common.share import WHOLE, Share, SharedPairs
from .common.tables import read_table
from .common.variant import ratings_path
from .config import Config, shipped
from .constants import (
    DATASET_FILE,
    ITEM,
    MOVIES_FILE,
    RATING_COLUMNS,
    RATINGS_FILE,
    SIMULATION,
    TEXT_IDS,
    TIME_UNIT,
    TIMESTAMP,
    USER,
)
from .sources.catalogue import read_movies
from .sources.negatives import read_negatives
from .stat_utils import PairSet, generator, sample_distinct_outside, sample_outside

UNFINISHED = "unfinished"  # key of dataset.json while a masked dataset is being written
_ANEW = "make the dataset anew with scripts/run_download_dataset.sh --overwrite"


@dataclass
class Ids:
    """Original ids: position k of `users` and `items` is user or item k."""
    users: np.ndarray
    items: np.ndarray


@dataclass
class HeldOut:
    """What is held out of each user.

    validation: (num_users,) int32 items; None if only the test item is held out.
    test: (num_users,) int32 items; None for those that may not look at them.
    rows: (num_users, holdout) int64, rows of ratings.csv, in order of time; None where there is no such file.
    """
    validation: np.ndarray | None
    test: np.ndarray
    rows: np.ndarray = None


@dataclass
class Dataset:
    """Interactions with 0-based ids, split by time.

    name: of the dataset.
    ids: Ids.
    user, item: (n,) int32, the training interactions, by user and in order of time within a user.
    rows: (n,) int64, rows of ratings.csv of the training interactions.
    held: HeldOut.
    share: Share of all users that these are; of several ranks each has the Dataset of its own users.
    """
    name: str
    ids: Ids
    user: np.ndarray
    item: np.ndarray
    rows: np.ndarray
    held: HeldOut
    share: Share = WHOLE

    @property
    def user_ids(self) -> np.ndarray:
        """(num_users,) original ids."""
        return self.ids.users

    @property
    def item_ids(self) -> np.ndarray:
        """(num_items,) original ids."""
        return self.ids.items

    @property
    def num_users(self) -> int:
        return len(self.ids.users)

    @property
    def num_items(self) -> int:
        return len(self.ids.items)

    @property
    def num_interactions(self) -> int:
        """Training interactions."""
        return len(self.user)

    @property
    def validation(self) -> np.ndarray:
        """(num_users,) int32, the validation items; None if only the test item is held out."""
        return self.held.validation

    @property
    def test(self) -> np.ndarray:
        """(num_users,) int32, the test items."""
        return self.held.test

    @property
    def held_items(self) -> list[np.ndarray]:
        """The test items and, if there are any, the validation items, each (num_users,) int32."""
        return [self.test] if self.validation is None else [self.test, self.validation]

    @property
    def held_out(self) -> np.ndarray:
        """(num_users, holdout) int64, rows of ratings.csv that hold the validation item (if any) and the test item."""
        return self.held.rows

    @property
    def all_user_ids(self) -> np.ndarray:
        """Original ids of the users of all ranks."""
        return self.user_ids if self.share is WHOLE else self.share.user_ids

    @property
    def all_interactions(self) -> int:
        """Training interactions of all ranks."""
        return int(self.share.total(self.num_interactions))

    def catalogue_sha256(self) -> str:
        """Digest of the users and items behind the positions: models of others are not models of this dataset."""
        names = ["\n".join(map(str, ids)) for ids in (self.all_user_ids, self.item_ids)]
        return hashlib.sha256("\0".join(names).encode("utf-8", "surrogatepass")).hexdigest()

    def part(self, kept: np.ndarray) -> Dataset:
        """The Dataset with some of the training interactions, `kept` (n,) bool."""
        rows = None if self.rows is None else self.rows[kept]
        user = self.user[kept]
        share = self.share.part(np.bincount(user, minlength=self.num_users))
        return dataclasses.replace(self, user=user, item=self.item[kept], rows=rows, share=share)

    def history_pairs(self) -> PairSet:
        """PairSet of the training interactions, which training negatives avoid."""
        return PairSet(self.user, self.item, self.num_users, self.num_items)

    def all_pairs(self) -> PairSet:
        """PairSet of all interactions of all ranks, held-out ones included, which evaluation negatives avoid."""
        held, everyone = self.held_items, np.arange(self.num_users, dtype=np.int32)
        own = PairSet(np.concatenate([self.user, *[everyone] * len(held)]), np.concatenate([self.item, *held]),
                      self.num_users, self.num_items)
        return own if self.share is WHOLE else SharedPairs(own, self.share)


def without_test_items(dataset: Dataset) -> Dataset:
    """The Dataset as the files of others get it: without the test items, which nothing that decides may look at."""
    return dataclasses.replace(dataset, held=HeldOut(dataset.validation, None))


def split(name: str, ids: Ids, ratings: tuple, holdout: int = 2) -> Dataset:
    """Leave-one-out split of interactions by time; ties are broken by their order.

    Args:
        name: of the dataset.
        ids: Ids.
        ratings: three (r,) arrays: positions of users and of items, and times; every user needs `holdout` of them.
        holdout: items held out of each user, 1 or 2.
    """
    user, item, time = ratings
    order = np.lexsort((time, user))
    user, item = user[order].astype(np.int32), item[order].astype(np.int32)
    last = np.flatnonzero(np.r_[user[1:] != user[:-1], True])
    held_out = np.stack([last - k for k in reversed(range(holdout))], 1)
    in_history = np.ones(len(user), bool)
    in_history[held_out] = False
    held = HeldOut(item[held_out[:, 0]] if holdout == 2 else None, item[last], order[held_out])
    return Dataset(name, ids, user[in_history], item[in_history], order[in_history], held)


def load_dataset(config: Config, masked: bool = False) -> Dataset:
    """Reads and splits the dataset that the settings name, or its masked twin.

    Ties in time are broken by the order of the rows. The items are those of movies.csv, so that a masked dataset has
    the items of the original even where no disclosed interaction is left; without movies.csv, those that occur.

    Raises:
        InputError: a file is missing or wrong, a user has fewer than two interactions, or an option contradicts what
            the dataset was made with.
    """
    ids, ratings = read_interactions(config, masked)
    return split(ratings_path(config, masked).parent.name, ids, ratings, config.holdout)


def read_interactions(config: Config, masked: bool = False) -> tuple[Ids, tuple]:
    """What `load_dataset` splits: Ids, and as `split` takes them the positions of users and of items, and the times."""
    path = ratings_path(config, masked)
    record = _check_record(path.with_name(DATASET_FILE), config)
    if record.get(UNFINISHED):
        raise InputError(f"{path.parent}: was being written when preprocess.py stopped; run preprocess.py again")
    holdout = config.holdout
    text = record.get(TEXT_IDS, [])
    ratings = _read(path, [USER, ITEM, TIMESTAMP])
    if len(ratings) == 0:
        raise InputError(f"{path}: holds no ratings; {_ANEW}")
    users, items = (clean_ids(ratings[column], path, column) for column in (USER, ITEM))
    pair = np.sort(users.code * len(items.unique) + items.code)
    if (pair[1:] == pair[:-1]).any():
        k = int(pd.DataFrame({USER: users.code, ITEM: items.code}).duplicated().to_numpy().argmax())
        raise InputError(f"{path}: user {users.unique[users.code[k]]} has item {items.unique[items.code[k]]} more than "
                         "once; remove the repeated row")
    catalogue = path.with_name(MOVIES_FILE)
    known = read_movies(catalogue)[ITEM].to_numpy() if catalogue.exists() else items.unique
    unknown = set(items.unique).difference(known)
    if unknown:
        raise InputError(f"{catalogue}: lacks item {min(unknown)} of {RATINGS_FILE}; "
                         "add its row, or remove the file if the catalogue does not matter")
    user_ids, place = in_order(users.unique, USER in text)
    user = place[users.code]
    item_ids, _ = in_order(known, ITEM in text)
    item = positions(item_ids, items.unique)[items.code]
    stamp, _ = times(ratings[TIMESTAMP], path)
    del ratings, users, items, pair
    least = holdout if masked else 2  # a mask may leave nothing but the test item
    lone = np.bincount(user, minlength=len(user_ids)) < least
    if lone.any():
        raise InputError(f"{path}: user {user_ids[lone][0]} has fewer than {least} interactions, but test and validation "
                         "items are held out of each user; remove such users (the data stage does, by min_ratings)")
    return Ids(user_ids, item_ids), (user, item, stamp)


def read_ratings_column(config: Config, column: str) -> np.ndarray | None:
    """(rows,) numbers of the column RATING or TIMESTAMP, in the order of ratings.csv; None if it is not there.

    Raises:
        InputError: names the row that is wrong.
    """
    path = ratings_path(config)
    table = read_table(path, RATING_COLUMNS, extra="quiet")
    if column not in table:
        return None
    return times(table[column], path)[0] if column == TIMESTAMP else numbers(table[column], path, column)


def timestamp_seconds(config: Config) -> float | None:
    """Seconds of one unit of the timestamps in ratings.csv; None where these tell what came first, but not when."""
    return UNITS.get(time_unit(config))


def time_unit(config: Config) -> str:
    """The unit of the timestamps in ratings.csv: one of tables.UNITS, or tables.ORDER."""
    path = ratings_path(config)
    record = path.with_name(DATASET_FILE)
    unit = read_json(record, _ANEW).get(TIME_UNIT) if record.exists() else None
    if unit is None:
        unit = times(_read(path, [USER, ITEM, TIMESTAMP])[TIMESTAMP], path)[1]
    return unit


def _read(path, needed):
    try:
        return read_table(path, RATING_COLUMNS, needed, extra="quiet")
    except InputError as e:
        raise InputError(f"{e} ({_ANEW})") from e


def _check_record(path, config):
    """The record of a dataset ({} if there is none); options of the data stage that were given must agree with it."""
    if not path.exists():
        return {}
    record = read_json(path, _ANEW)
    (defaults, _), given = shipped(), config.given
    for key, value in config.select("filter", *(["simulation"] if config.dataset == SIMULATION else [])).items():
        if (value != defaults[key] or key in given) and key in record and record[key] != value:
            raise InputError(f"--{key} {value}: but {path.parent} was made with {key}={record[key]}; make it anew with "
                             f"scripts/run_download_dataset.sh --dataset {config.dataset} --{key} {value}, "
                             "or leave the option out")
    return record


def check_negatives(dataset: Dataset, counts: np.ndarray) -> None:
    """Raises InputError if a user, who has (num_users,) `counts` items, has interacted with every item."""
    full = counts >= dataset.num_items
    if full.any():
        raise InputError(f"dataset {dataset.name}: user {dataset.user_ids[full][0]} has interacted with all "
                         f"{dataset.num_items} items, so no negative can be drawn; make the dataset anew with "
                         f"--max_ratings {dataset.num_items - 1}, which leaves such users out")


def training_groups(dataset: Dataset, num_neg: int, rng: np.random.Generator, pairs: PairSet | None = None,
                    order: np.ndarray | None = None) -> np.ndarray:
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
    check_negatives(dataset, pairs.counts)
    user, item = (dataset.user, dataset.item) if order is None else (dataset.user[order], dataset.item[order])
    return np.concatenate([item[:, None], sample_outside(user, pairs, rng, num_neg)], axis=1)


def evaluation_candidates(dataset: Dataset, held_out: str, config: Config) -> np.ndarray:
    """The items that each user's held-out item is ranked against.

    Drawn by seed from the items that the user never interacted with, all different; the negatives of the validation
    and of the test item are drawn independently. With `eval_negatives` those of the test item come from that file.

    Args:
        dataset: Dataset.
        held_out: "validation" or "test".
        config: num_eval_neg, eval_negatives, eval_item_list, top_k, seed.

    Returns:
        (num_users, 1 + num_eval_neg) int32 items; column 0 is the held-out item.

    Raises:
        InputError: a user has too few items left to draw from, the file does not fit the dataset, or top_k takes them all.
    """
    positive = getattr(dataset, held_out)
    if held_out == "test" and config.eval_negatives:
        negatives = read_negatives(config.eval_negatives, config.eval_item_list, dataset)
    else:
        pairs = dataset.all_pairs()
        left = dataset.num_items - pairs.counts
        if left.min() < config.num_eval_neg:
            most = dataset.num_items - config.num_eval_neg
            lower = f"set it to {left.min()} or less, or " if left.min() else ""
            leave = f"leave such users out with --max_ratings {most} in the data stage" if most >= config.min_ratings \
                else "give a dataset with more items"
            user = dataset.all_user_ids[left.argmin()]
            raise InputError(f"--num_eval_neg {config.num_eval_neg}: user {user} has interacted "
                             f"with all but {left.min()} of the {dataset.num_items} items; {lower}{leave}")
        negatives = sample_distinct_outside(pairs, config.num_eval_neg, generator(config.seed, "candidates", held_out))
        negatives = dataset.share.own(negatives)
    candidates = np.concatenate([positive[:, None], negatives], axis=1)
    counts = counting(candidates)
    number = candidates.shape[1] if counts is None else int(counts.sum(1).min())
    if config.top_k >= number:
        raise InputError(f"--top_k {config.top_k}: there are only {number} candidates for the {held_out} item, so that "
                         "every item would be a hit; lower it")
    return candidates


def counting(candidates: np.ndarray) -> np.ndarray | None:
    """Which candidates count: all but copies of the first, the held-out item (some published files have them).

    Args:
        candidates: (num_users, n) int items.

    Returns:
        (num_users, n) bool; None if all count.
    """
    counts = candidates != candidates[:, :1]
    counts[:, 0] = True
    return None if counts.all() else counts
