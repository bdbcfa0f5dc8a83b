"""The lists of users and items of a dataset: titles and genres, and the ids that a person names."""
from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd

from ..common.columns import BLANKS, NO_GENRE, PARTED, clean_ids, clean_text, printable
from ..common.errors import InputError, logger
from ..common.tables import read_table
from ..common.terminal import printable as on_one_line
from ..common.variant import dataset_folder
from ..config import Config
from ..constants import DATASET_FILE, GENRE, GENRES, ITEM, MOVIE_COLUMNS, MOVIES_FILE, TEXT_IDS, TITLE, USER

_LIST = re.compile(r"""\[.*\]|(['"])[^|;]*\1""", re.S)  # ['A', 'B'], [["A", "B"]], or 'A', 'B'
_QUOTED = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
_IN_LIST = re.compile(rf"""{_QUOTED}|[^\s\[\],'"][^\[\],]*""")
_NAMED = re.compile(rf"""['"]name['"]\s*:\s*({_QUOTED})""")  # in a list of {'id': 18, 'name': 'Drama'}
_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})|\\(.)")


def load_catalogue(dataset, config: Config) -> pd.DataFrame:
    """DataFrame of the title, if unknown "item" and its id, and genres (joined by "|"), of all dataset.item_ids."""
    path = dataset_folder(config) / MOVIES_FILE
    known = read_movies(path) if path.is_file() else pd.DataFrame(columns=MOVIE_COLUMNS)
    found = known.set_index(ITEM).reindex(map(str, dataset.item_ids)).fillna("").astype(str)
    number = np.array([f"item {i}" for i in dataset.item_ids])
    title = found[TITLE].to_numpy()
    return pd.DataFrame({TITLE: np.where(title == "", number, title), GENRES: found[GENRES].to_numpy()})


def read_movies(path: str | Path) -> pd.DataFrame:
    """The list of items in a movies.csv; see clean_movies. What the data stage wrote parts genres by bars."""
    table = read_table(path, MOVIE_COLUMNS, [ITEM], extra="quiet", movies=True)
    return clean_movies(table, path, bars=Path(path).with_name(DATASET_FILE).exists())


def plain_genre(text):
    """The name of a genre as names are compared."""
    return _clean_genre(text).casefold()


def genres_of(dataset, config):
    """The genres of the items, by their lower-case names; an item without one has the genre "(no genres listed)".

    Returns pairs: DataFrame of ITEM and GENRE, int, by item, a row for each genre of each; names: Index, ascending.
    """
    listed = load_catalogue(dataset, config)[GENRES]
    if (listed == "").all():
        raise InputError(f"{dataset_folder(config) / MOVIES_FILE}: is missing, or lists no genres; make the dataset anew "
                         f"with --archive and --items, a CSV with {ITEM},{GENRES}, or state nothing by {GENRE}")
    each = listed.where(listed != "", NO_GENRE).str.split("|").explode().map(plain_genre)
    pairs = each.rename_axis(ITEM).reset_index(name=GENRE).drop_duplicates()
    pairs[GENRE], names = pd.factorize(pairs[GENRE], sort=True)
    return pairs, names


def find_users(dataset, text: str, option: str) -> np.ndarray:
    """Positions of the users whose ids `text` lists, separated by commas; InputError names `option` if one is not there."""
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


def text_ids(user_ids: np.ndarray, item_ids: np.ndarray) -> dict[str, list[str]]:
    """What dataset.json says of the columns of ids: those that are text."""
    return {TEXT_IDS: [column for column, ids in ((USER, user_ids), (ITEM, item_ids)) if ids.dtype.kind not in "iu"]}


def clean_movies(table: pd.DataFrame, name: str | Path, bars: bool = False, blanks: bool = False) -> pd.DataFrame:
    """A list of items with one row for each, as text: ITEM, TITLE on one line, GENRES joined by "|"; "" for what is unknown.

    Rows without an id are left out, and of an item that is there twice the first row counts; the log says so, and by what
    genres are parted: quoted lists by themselves, other text by the first of PARTED that the file has.
    table: ITEM and, where the source has them, TITLE and GENRES, of text or categories of text.
    bars, blanks: whether genres are known to be parted by "|"; whether blanks part them where nothing else does.
    Raises InputError: see clean_ids.
    """
    ids = clean_ids(table[ITEM], name, ITEM, blank=True)
    titles, genres = (table[c].astype(str).to_numpy() if c in table else np.full(len(table), "", object)
                      for c in (TITLE, GENRES))
    there = ids != ""
    lost = np.flatnonzero(~there & np.array([title.strip() != "" for title in titles], bool))
    if len(lost):
        logger.warning("%s: %s rows with a title have no %s and are left out, e.g. row %d", name, f"{len(lost):,}", ITEM,
                       lost[0] + 1)
    genres = ["|".join(filter(None, map(_clean_genre, parts))) for parts in _parted(genres[there], name, bars, blanks)]
    titles = [title if printable(title) else on_one_line(title) for title in titles[there]]
    movies = pd.DataFrame({ITEM: ids[there], TITLE: titles, GENRES: genres}, dtype=object)
    repeated = movies.duplicated(ITEM)
    if repeated.any():
        logger.warning("%s: %s rows repeat an item, e.g. %s; of each item the first row counts", name,
                       f"{int(repeated.sum()):,}", movies[ITEM][repeated].iloc[0])
    return movies[~repeated].reset_index(drop=True)


def _parted(texts, name, bars, blanks):
    texts = [text.strip(BLANKS) for text in texts]
    plain = "\n".join(text for text in texts if not _LIST.fullmatch(text)).replace("&amp;", "&")
    sign = "|" if bars else next((sign for sign in PARTED if sign in plain), None if blanks else "|")
    parts = [_of_list(text) if not bars and _LIST.fullmatch(text) else [text] if text == NO_GENRE else text.split(sign)
             for text in texts]
    if shown := next((pair for pair in zip(texts, parts) if len(pair[1]) > 1 and "|" not in pair[0]), None):
        listed = "in quoted lists" if _LIST.fullmatch(shown[0]) else f"parted by {PARTED.get(sign, 'blanks')}"
        logger.info("%s: genres are %s: %r is %s", name, listed, shown[0], " and ".join(map(_clean_genre, shown[1])))
    return parts


def _of_list(text):
    names = (name[1:-1] if name[0] in "'\"" else name for name in _NAMED.findall(text) or _IN_LIST.findall(text))
    return [_ESCAPE.sub(lambda sign: chr(int(sign[1], 16)) if sign[1] else sign[2], name) for name in names]


def _clean_genre(text):
    return " ".join(clean_text(text).split())
