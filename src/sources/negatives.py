"""Test negatives as the code of the NCF paper publishes them."""
import numpy as np

from ..common.columns import clean_text, positions
from ..common.errors import InputError
from ..common.tables import existing_file

_BELONGS = "give the file that belongs to this dataset"


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
    def fault(text):
        return InputError(f"--eval_negatives {path}: {text}")

    rows = _read_negatives(path)
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


def _read_negatives(path):
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
