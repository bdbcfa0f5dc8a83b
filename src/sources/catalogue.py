"""The lists of users and items of a dataset: titles and genres, and the ids that a person names."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from ..common.columns import NO_GENRE, clean_genre, clean_movies, clean_text
from ..common.errors import InputError
from ..common.tables import read_table
from ..common.variant import dataset_folder
from ..config import Config
from ..constants import DATASET_FILE, GENRE, GENRES, ITEM, MOVIE_COLUMNS, MOVIES_FILE, TITLE, USER


def load_catalogue(dataset, config: Config) -> pd.DataFrame:
    """DataFrame with title and genres (joined by "|") of each item, in the order of dataset.item_ids.

    What movies.csv does not say is ""; a title is then "item" and the item's id.
    """
    path = dataset_folder(config) / MOVIES_FILE
    known = read_movies(path) if path.is_file() else pd.DataFrame(columns=MOVIE_COLUMNS)
    found = known.set_index(ITEM).reindex(map(str, dataset.item_ids)).fillna("").astype(str)
    number = np.array([f"item {i}" for i in dataset.item_ids])
    title = found[TITLE].to_numpy()
    return pd.DataFrame({TITLE: np.where(title == "", number, title), GENRES: found[GENRES].to_numpy()})


def read_movies(path: str | Path) -> pd.DataFrame:
    """The list of items in a movies.csv; see columns.clean_movies. What the data stage wrote parts genres by bars."""
    table = read_table(path, MOVIE_COLUMNS, [ITEM], extra="quiet", movies=True)
    return clean_movies(table, path, bars=Path(path).with_name(DATASET_FILE).exists())


def plain_genre(text):
    """The name of a genre as names are compared."""
    return clean_genre(text).casefold()


def genres_of(dataset, config):
    """The genres of the items, by their lower-case names; an item without one has the genre "(no genres listed)".

    Returns:
        pairs: DataFrame of ITEM and GENRE, int, a row for each genre of each item, by item.
        names: Index of the genres' names, ascending.
    """
    path = dataset_folder(config) / MOVIES_FILE
    remedy = f"make the dataset anew with --archive and --items, a CSV with {ITEM},{GENRES}, or state nothing by {GENRE}"
    if not path.is_file():
        raise InputError(f"{path}: no such file, so no genres are known; {remedy}")
    listed = load_catalogue(dataset, config)[GENRES]
    if (listed == "").all():
        raise InputError(f"{path}: lists no genres; {remedy}")
    each = listed.where(listed != "", NO_GENRE).str.split("|").explode().map(plain_genre)
    pairs = each.rename_axis(ITEM).reset_index(name=GENRE).drop_duplicates()
    pairs[GENRE], names = pd.factorize(pairs[GENRE], sort=True)
    return pairs, names


def find_users(dataset, text: str, option: str) -> np.ndarray:
    """Positions of the users whose original ids `text` lists, separated by commas.

    Raises:
        InputError: there is no such user; `option` is named.
    """
    place = {str(name): k for k, name in enumerate(dataset.user_ids)}
    if clean_text(text) in place:  # an id may hold a comma
        return np.array([place[clean_text(text)]])
    names = [clean_text(name) for name in text.split(",") if clean_text(name)]
    if not names or (unknown := [name for name in names if name not in place]):
        what = f"no user {unknown[0]!r} in" if names else "names no user of"
        raise InputError(f"--{option} {text}: {what} {dataset.name}; its {dataset.num_users:,} users have ids such as "
                         f"{', '.join(map(str, dataset.user_ids[:3]))}")
    return np.array([place[name] for name in dict.fromkeys(names)])


def original_id(ids: np.ndarray, position: int) -> int | str:
    """An original id, of user_ids or item_ids, as JSON can hold it."""
    return ids[position].item() if isinstance(ids[position], np.generic) else ids[position]


def id_types() -> dict:
    """Options of pandas.read_csv for a file with ids that this program wrote: they are the text that stands there."""
    return {"dtype": {USER: str, ITEM: str}, "keep_default_na": False, "low_memory": False}


def text_ids(user_ids: np.ndarray, item_ids: np.ndarray) -> list[str]:
    """Of the columns of ids those that are text, as dataset.json lists them."""
    return [column for column, ids in ((USER, user_ids), (ITEM, item_ids)) if ids.dtype.kind not in "iu"]
