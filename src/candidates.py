"""What positives are trained against, and held-out items ranked against: drawn by seed, or as the NCF code publishes it."""
from __future__ import annotations

import numpy as np

from .common.columns import clean_text, positions
from .common.errors import InputError
from .common.tables import existing_file
from .config import Config
from .dataset import Dataset
from .stat_utils import PairSet, generator, sample_distinct_outside, sample_outside

_BELONGS = "give the file that belongs to this dataset"


def check_negatives(dataset: Dataset, counts: np.ndarray) -> None:
    """Raises InputError if a user who trains, and has (num_users,) `counts` items, has interacted with every item."""
    full = (counts >= dataset.num_items) & (dataset.history.length > 0)
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
        (scored users, 1 + num_eval_neg) int32 items of dataset.scored; column 0 is the held-out item.

    Raises:
        InputError: a user has too few items left to draw from, the file does not fit the dataset, or top_k takes them all.
    """
    positive = getattr(dataset, held_out)
    if held_out == "test" and config.eval_negatives:
        negatives = _read_negatives(config.eval_negatives, config.eval_item_list, dataset)
    else:
        pairs = dataset.all_pairs(of_scored=True)
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
    candidates = np.concatenate([positive[:, None], negatives], axis=1)[dataset.scored]
    counts = counting(candidates)
    number = candidates.shape[1] if counts is None else int(counts.sum(1).min(initial=candidates.shape[1]))
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


def _read_negatives(path, item_list, dataset):
    """(num_users, negatives) int32 items of a file with a line `(user,item)<TAB>negative<TAB>...` for each user.

    If its ids are 0-based (its user k is then the dataset's k-th user by id), `item_list` is a file with a line
    `original item id<TAB>0-based id` for each item, else "".
    """
    def fault(text):
        return InputError(f"--eval_negatives {path}: {text}")

    rows = _negatives(path)
    lengths = {len(row) for row in rows}
    if len(rows) != dataset.num_users or len(lengths) != 1 or lengths.pop() < 3:
        raise fault(f"needs a line (user,item)<TAB>negative<TAB>... for each of {dataset.num_users} users, with equally "
                    f"many negatives each; it has {len(rows)} lines")
    table = np.array(rows, object)
    users, names = table[:, 0], table[:, 1:]
    everyone = np.arange(dataset.num_users)
    if item_list:
        original = _read_item_list(item_list)
        if unknown := [name for name in names.ravel() if name not in original]:
            raise fault(f"id {unknown[0]!r} is not in --eval_item_list {item_list}; use the list that belongs to the file")
        names = np.vectorize(original.get, otypes=[object])(names)
    user = positions(everyone if item_list else dataset.user_ids, users)
    unique, place = np.unique(names.ravel().astype(str), return_inverse=True)
    item = positions(dataset.item_ids, unique)[place].reshape(names.shape)
    remedy = f"{_BELONGS} (0-based ids need --eval_item_list)"
    for what, found, named in (("user", user, users), ("item", item, names)):
        if found.min() < 0:
            raise fault(f"names the {what} {named[found < 0][0]!r}, which {dataset.name} does not have; {remedy}")
    if not np.array_equal(np.sort(user), everyone):
        raise fault(f"names a user twice, and another not at all; {remedy}")
    candidates = np.empty(item.shape, np.int32)
    candidates[user] = item
    differ = (dataset.test >= 0) & (candidates[:, 0] != dataset.test)
    if differ.any():
        raise fault(f"has another test item than {dataset.name} for {differ.sum()} users, e.g. user "
                    f"{dataset.user_ids[differ.argmax()]}; {_BELONGS}")
    seen = dataset.history_pairs().contains(dataset.scored[:, None], candidates[dataset.scored])
    if seen.any():
        raise fault(f"{seen.sum()} candidates are training interactions of their user; {_BELONGS}")
    return candidates[:, 1:]


def _lines(path, option, remedy):
    """The fields of each line that is not empty, parted by tabs, or by blanks where there is no tab."""
    path = existing_file(path, remedy, option)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as e:
        raise InputError(f"--{option} {path}: is no UTF-8 text; {remedy}") from e
    return [[clean_text(field) for field in (line.split("\t") if "\t" in line else line.split())]
            for line in text.split("\n") if line.strip()]


def _negatives(path):
    """A list for each line (user,item)<TAB>negative<TAB>...: user, item and negatives, as text."""
    remedy = "give a file of lines (user,item)<TAB>negative<TAB>..."
    rows = []
    for number, (first, *negatives) in enumerate(_lines(path, "eval_negatives", remedy), 1):
        user, comma, item = first.strip("()").partition(",")
        if not comma:
            raise InputError(f"--eval_negatives {path}: line {number} does not begin with (user,item); {remedy}")
        rows.append([clean_text(user), clean_text(item), *(name for name in negatives if name)])
    return rows


def _read_item_list(path):
    """Dict of 0-based id to original id, as text."""
    remedy = "give lines 'original id<TAB>0-based id'"
    pairs = _lines(path, "eval_item_list", remedy)
    if odd := [pair for pair in pairs if len(pair) != 2]:
        raise InputError(f"--eval_item_list {path}: has {len(odd[0])} columns in a line; {remedy}")
    return {name: original for original, name in pairs}
