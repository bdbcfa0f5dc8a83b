"""What positives are trained against, and held-out items ranked against: drawn by seed, or as the NCF code publishes it."""
from __future__ import annotations

import numpy as np

from .common.columns import clean_text, positions
from .common.errors import InputError
from .common.tables import existing_file
from .config import Config
from .dataset import Dataset
from .stat_utils import PairSet, generator, sample_distinct_outside, sample_outside


def check_negatives(dataset: Dataset, counts: np.ndarray) -> None:
    """Raises InputError if a user who trains, and has (num_users,) `counts` items, has interacted with every item."""
    full = (counts >= dataset.num_items) & (dataset.history.length > 0)
    if full.any():
        raise InputError(f"dataset {dataset.name}: user {dataset.user_ids[full][0]} has interacted with all "
                         f"{dataset.num_items} items, so no negative can be drawn; make the dataset anew with "
                         f"--max_ratings {dataset.num_items - 1}, which leaves such users out")


def training_groups(dataset: Dataset, num_neg: int, rng: np.random.Generator, pairs: PairSet,
                    order: np.ndarray) -> np.ndarray:
    """Each positive of the history with fresh negatives: (n, 1 + num_neg) int32 items, the positive first.

    Negatives are no training positive of the user. `pairs`: dataset.history_pairs(); `order`: (n,) positions in the history,
    the positives to take. Raises InputError if a user has interacted with every item.
    """
    check_negatives(dataset, pairs.counts)
    return np.concatenate([dataset.item[order, None], sample_outside(dataset.user[order], pairs, rng, num_neg)], axis=1)


def evaluation_candidates(dataset: Dataset, held_out: str, config: Config) -> np.ndarray:
    """The items that each user's held-out item is ranked against.

    Drawn by seed from the items that the user never interacted with, all different; the negatives of the validation
    and of the test item are drawn independently. With `eval_negatives` those of the test item come from that file.
    held_out: "validation" or "test"; config: num_eval_neg, eval_negatives, eval_item_list, top_k, seed.
    Returns: (scored users, 1 + num_eval_neg) int32 items of dataset.scored; column 0 is the held-out item.
    Raises InputError: a user has too few items left to draw from, the file does not fit the dataset, or top_k takes them
        all.
    """
    positive = getattr(dataset, held_out)
    if held_out == "test" and config.eval_negatives:
        negatives = _read_negatives(config.eval_negatives, config.eval_item_list, dataset)
    else:
        pairs = dataset.all_pairs(of_scored=True)
        left = dataset.num_items - pairs.counts
        if left.min() < config.num_eval_neg:
            most = dataset.num_items - config.num_eval_neg
            leave = f"leave such users out with --max_ratings {most} in the data stage" if most >= config.min_ratings \
                else "give a dataset with more items"
            raise InputError(f"--num_eval_neg {config.num_eval_neg}: user {dataset.all_user_ids[left.argmin()]} has "
                             f"interacted with all but {left.min()} of {dataset.num_items} items; set it lower, or {leave}")
        negatives = sample_distinct_outside(pairs, config.num_eval_neg, generator(config.seed, "candidates", held_out))
        negatives = dataset.own(negatives)
    candidates = np.concatenate([positive[:, None], negatives], axis=1)[dataset.scored]
    counts = counting(candidates)
    number = candidates.shape[1] if counts is None else int(counts.sum(1).min(initial=candidates.shape[1]))
    if config.top_k >= number:
        raise InputError(f"--top_k {config.top_k}: there are only {number} candidates for the {held_out} item, so that "
                         "every item would be a hit; lower it")
    return candidates


def counting(candidates: np.ndarray) -> np.ndarray | None:
    """Which of (num_users, n) candidates count: all but copies of the first, the held-out item (published files have some).

    Returns (num_users, n) bool; None if all count.
    """
    counts = candidates != candidates[:, :1]
    counts[:, 0] = True
    return None if counts.all() else counts


def _read_negatives(path, item_list, dataset):
    """(num_users, negatives) int32 items of a file with a line `(user,item)<TAB>negative<TAB>...` for each user of all.

    If its ids are 0-based (its user k is then the dataset's k-th user by id), `item_list` is a file with a line
    `original item id<TAB>0-based id` for each item, else "".
    """
    def fault(text):
        return InputError(f"--eval_negatives {path}: {text}; give the file that belongs to this dataset")

    rows = [[*map(clean_text, first.strip("()").split(",", 1)), *filter(None, negatives)]
            for first, *negatives in _lines(path, "eval_negatives")]
    if len(rows) != len(dataset.all_user_ids) or len({*map(len, rows)}) != 1 or len(rows[0]) < 3:
        raise fault("needs a line (user,item)<TAB>negative<TAB>... for each of "
                    f"{len(dataset.all_user_ids)} users, with equally many negatives each; it has {len(rows)} lines")
    table, everyone = np.array(rows, object), np.arange(len(rows))
    users, names = table[:, 0], table[:, 1:]
    items = names.ravel()
    if item_list:
        pairs = _lines(item_list, "eval_item_list")
        if any(len(pair) != 2 for pair in pairs):
            raise InputError(f"--eval_item_list {item_list}: give lines 'original item id<TAB>0-based id'")
        original = {number: name for name, number in pairs}
        items = [original.get(name, "") for name in items]
    user = positions(everyone if item_list else dataset.all_user_ids, users)
    item = positions(dataset.item_ids, items).reshape(names.shape)
    for what, found, named in (("user", user, users), ("item", item, names)):
        if found.min() < 0:
            raise fault(f"names the {what} {named[found < 0][0]!r}, which {dataset.name} does not have (0-based ids need "
                        "--eval_item_list)")
    if not np.array_equal(np.sort(user), everyone):
        raise fault("names a user twice, and another not at all")
    candidates = dataset.own(item[np.argsort(user)].astype(np.int32))
    differ = (dataset.test >= 0) & (candidates[:, 0] != dataset.test)
    if differ.any():
        raise fault(f"has another test item than {dataset.name} for {differ.sum()} users, e.g. user "
                    f"{dataset.user_ids[differ.argmax()]}")
    seen = dataset.history_pairs().contains(dataset.scored[:, None], candidates[dataset.scored])
    if seen.any():
        raise fault(f"{seen.sum()} candidates are training interactions of their user")
    return candidates[:, 1:]


def _lines(path, option):
    """The fields of each line that is not empty, parted by tabs, or by blanks where there is no tab."""
    try:
        text = existing_file(path, "name another file", option).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as e:
        raise InputError(f"--{option} {path}: is no UTF-8 text; name another file") from e
    return [[clean_text(field) for field in (line.split("\t") if "\t" in line else line.split())]
            for line in text.split("\n") if line.strip()]
