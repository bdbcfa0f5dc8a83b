"""Test negatives as the code of the NCF paper publishes them."""
import numpy as np

from ..common.columns import clean_text, positions
from ..common.errors import InputError
from ..common.tables import existing_file


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
    rows = _read_negatives(path)
    lengths = {len(row) for row in rows}
    if len(rows) != dataset.num_users or len(lengths) != 1 or lengths.pop() < 3:
        raise InputError(f"--eval_negatives {path}: needs a line (user,item)<TAB>negative<TAB>... for each of "
                         f"{dataset.num_users} users, with equally many negatives each; it has {len(rows)} lines")
    table = np.array(rows, object)
    names = table[:, 1:]
    if item_list:
        to_original = _read_item_list(item_list)
        unknown = next((name for name in names.ravel() if name not in to_original), None)
        if unknown is not None:
            raise InputError(f"--eval_negatives {path}: id {unknown!r} is not in --eval_item_list {item_list}; "
                             "use the list that belongs to the file")
        names = np.vectorize(to_original.__getitem__, otypes=[object])(names)
        user = positions(np.arange(dataset.num_users), table[:, 0])
    else:
        user = positions(dataset.user_ids, table[:, 0])
    unique, place = np.unique(names.ravel().astype(str), return_inverse=True)
    item = positions(dataset.item_ids, unique)[place].reshape(names.shape)
    remedy = "give the file that belongs to this dataset (0-based ids need --eval_item_list)"
    for what, place, named in (("user", user, table[:, 0]), ("item", item, names)):
        if place.min() < 0:
            raise InputError(f"--eval_negatives {path}: names the {what} {named[place < 0][0]!r}, which {dataset.name} does "
                             f"not have; {remedy}")
    if not np.array_equal(np.sort(user), np.arange(dataset.num_users)):
        raise InputError(f"--eval_negatives {path}: names a user twice, and another not at all; {remedy}")
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
    remedy = "give lines 'original id<TAB>0-based id'"
    pairs = _lines(path, "eval_item_list", remedy)
    if odd := [pair for pair in pairs if len(pair) != 2]:
        raise InputError(f"--eval_item_list {path}: has {len(odd[0])} columns in a line; {remedy}")
    return {name: original for original, name in pairs}
