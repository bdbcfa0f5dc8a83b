"""The lists of users and items of a dataset: titles and genres, and the ids that a person names."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from ..common.columns import clean_movies, clean_text
from ..common.errors import InputError
from ..common.tables import read_table
from ..common.variant import dataset_folder
from ..config import Config
from ..constants import GENRES, ITEM, MOVIE_COLUMNS, MOVIES_FILE, TITLE, USER


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


def nameless(item_ids: np.ndarray) -> pd.DataFrame:
    """The content of a movies.csv that says of (num_items,) items no more than that they exist."""
    return pd.DataFrame({ITEM: item_ids, TITLE: "", GENRES: ""})


def read_movies(path: str | Path) -> pd.DataFrame:
    """The list of items in a movies.csv; see tables.clean_movies."""
    return clean_movies(read_table(path, MOVIE_COLUMNS, [ITEM], extra="quiet", movies=True), path)


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
