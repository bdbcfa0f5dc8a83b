"""What users ask to take back from a trained model: the file `withdraw`, a CSV with user_id[,item_id][,genre]."""
from __future__ import annotations

import numpy as np

from ..common.columns import clean_ids, positions
from ..common.errors import InputError
from ..common.tables import existing_file, read_table, short_line
from ..config import Config
from ..constants import GENRE, ITEM, UNWILLINGNESS, USER
from ..dataset import Dataset
from .unwillingness import genres_of, plain_genre
from .withdrawn import read_requests

_ALL = -2  # position of what a line does not name


def read_withdrawal(config: Config, dataset: Dataset, whole: Dataset, model: str) -> tuple[np.ndarray, np.ndarray]:
    """What the file `withdraw` takes back from a model.

    A line names a user and an item; a user alone, for all that is theirs; or a user and a genre, of which all is meant.

    Args:
        config: withdraw, and where the dataset is.
        dataset: Dataset that the model was trained on.
        whole: Dataset, the original, of the same users and items.
        model: its name.

    Returns:
        withdrawn: (n,) bool, in the order of dataset.user.
        meant: (m,) bool, in the order of whole.user: all that the lines name, what is withheld too, since who takes back all
            of something wants none of it disclosed later.

    Raises:
        InputError: the file is missing or wrong, or a line names nothing that trained the model, or what an earlier line or
            request took back: names the line.
    """
    path = existing_file(config.withdraw, f"give a CSV with {USER}, and {ITEM} or {GENRE} where not all of theirs is meant",
                         "withdraw")
    table = read_table(path, [USER, ITEM, GENRE, UNWILLINGNESS], [USER], extra="refused", skip_blank_lines=False)
    line = np.arange(len(table)) + 2
    named = [column for column in (USER, ITEM, GENRE) if column in table]
    fields = {column: table[column].astype(str).str.strip().to_numpy(object) for column in table}
    filled = np.any([fields[column] != "" for column in table], axis=0)
    table, line = table[filled].reset_index(drop=True), line[filled]
    fields = {column: field[filled] for column, field in fields.items()}

    def refuse(row, why):
        raise InputError(f"{path}: line {line[row]}: {why}; nothing was withdrawn")

    if not len(table):
        raise InputError(f"{path}: names nothing; give at least one line below its header")
    if (short := short_line(path)):
        raise InputError(f"{path}: line {short} has fewer fields than the header, and what it does not name must not stand "
                         "for all; fill it up with commas, or remove it")
    for row, text in enumerate(fields.get(UNWILLINGNESS, ())):
        if text not in ("1", "1.0"):
            refuse(row, f"{UNWILLINGNESS} {text}, but nothing is withdrawn by half; leave the column out, or write 1")
    ids = {}
    for column, known in ((USER, dataset.user_ids), (ITEM, dataset.item_ids)):
        ids[column] = np.full(len(table), _ALL)
        if column in table:
            found = clean_ids(table[column], path, column, lambda row: f"line {line[row]}", blank=True)
            ids[column] = np.append(positions(known, found.unique), _ALL)[found.code]
    genres = [plain_genre(text) for text in fields.get(GENRE, [""] * len(table))]
    of_genre = _items_by_genre(dataset, config) if any(genres) else None
    taken, meant = np.zeros(dataset.num_interactions, bool), np.zeros(whole.num_interactions, bool)
    for row, (user, item) in enumerate(zip(ids[USER].tolist(), ids[ITEM].tolist())):
        said = ", ".join(f"{column.removesuffix('_id')} {fields[column][row]}" for column in named if fields[column][row])
        if user == _ALL:
            refuse(row, f"no {USER}; a request names whose interactions are taken back")
        if user < 0:
            refuse(row, f"there is no user {fields[USER][row]} in {dataset.name}")
        place, all_places = (_named(data, user, item, of_genre.get(genres[row], ()) if genres[row] else None)
                             for data in (dataset, whole))
        if not len(place):
            refuse(row, _why_nothing(config, dataset, model, user, item, genres[row], said))
        if taken[place].all():
            refuse(row, f"{said} is withdrawn by an earlier line already; remove it")
        taken[place] = meant[all_places] = True
    return taken, meant


def _named(dataset, user, item, items):
    """Positions of a user's interactions: all, or with an item (unless _ALL) and with some of `items` (unless None)."""
    place = np.arange(*np.searchsorted(dataset.user, [user, user + 1]))
    if item != _ALL:
        place = place[dataset.item[place] == item]
    return place if items is None else place[np.isin(dataset.item[place], items)]


def _items_by_genre(dataset, config):
    """By the plain name of a genre the positions of its items."""
    pairs, names = genres_of(dataset, config)
    return {names[genre]: group[ITEM].to_numpy() for genre, group in pairs.groupby(GENRE)}


def _why_nothing(config, dataset, model, user, item, genre, said):
    """Why a line of a known user names nothing that trained the model."""
    name = str(dataset.user_ids[user])
    requests = [request for request in read_requests(config) if request["model"] == model]
    if item == _ALL:
        if not genre and any(str(u) == name for request in requests for u, _ in request["interactions"]):
            return f"{said} has nothing left in {model}: all was withdrawn before"
        return f"{said}: nothing of that trained {model}"
    if item < 0:
        return f"{said}: there is no such item in {dataset.name}"
    thing = str(dataset.item_ids[item])
    for request in requests:
        if any(str(u) == name and str(i) == thing for u, i in request["interactions"]):
            return f"{said} was withdrawn before, by request {request['request']} of {request['time']}"
    if item in [held[user] for held in dataset.held_items]:
        return f"{said} is held out to evaluate, and trained nothing"
    return f"{said} is not disclosed, so it trained nothing of {model}"
