"""What users ask to take back: the file `withdraw`, a CSV with user_id[,item_id][,genre]."""
from __future__ import annotations

import numpy as np

from ..common.columns import clean_ids, positions
from ..common.errors import InputError
from ..common.tables import existing_file, read_table, short_line
from ..config import Config
from ..constants import GENRE, ITEM, UNWILLINGNESS, USER
from ..sources.catalogue import items_by_genre, original_id, plain_genre
from ..sources.interactions import Interactions
from .withdrawn import named_by, taken_back

_ALL = -2  # position of what a line does not name


def read_withdrawal(config: Config, whole: Interactions, requests: list[dict]) -> tuple[np.ndarray, list[list]]:
    """What the file `withdraw` takes back.

    A line names a user and an item; a user alone, for all that is theirs; or a user and a genre, of which all is meant: what
    trained a model, what is held out, what is withheld, and what newer ratings bring.

    Args:
        config: withdraw, and where the dataset is.
        whole: all Interactions of the dataset.
        requests: those that were carried out before.

    Returns:
        meant: (n,) bool, the interactions that the lines name and no earlier request took back.
        rules: list of [user_id, item_id or None, genre or None], as withdrawn.read_requests says them.

    Raises:
        InputError: the file is missing or wrong, or a line names nothing, or only what an earlier line or request took back:
            names the line.
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
    for column, known in ((USER, whole.user_ids), (ITEM, whole.item_ids)):
        ids[column] = np.full(len(table), _ALL)
        if column in table:
            found = clean_ids(table[column], path, column, lambda row: f"line {line[row]}", blank=True)
            ids[column] = np.append(positions(known, found.unique), _ALL)[found.code]
    genres = [plain_genre(text) for text in fields.get(GENRE, [""] * len(table))]
    of_genre = items_by_genre(whole, config) if any(genres) else None
    before = taken_back(whole, config, requests)
    meant, rules = np.zeros(whole.num_interactions, bool), []
    earlier = [rule for request in requests for rule in request["rules"]]
    for row, (user, item) in enumerate(zip(ids[USER].tolist(), ids[ITEM].tolist())):
        said = ", ".join(f"{column.removesuffix('_id')} {fields[column][row]}" for column in named if fields[column][row])
        if user == _ALL:
            refuse(row, f"no {USER}; a request names whose interactions are taken back")
        if user < 0:
            refuse(row, f"there is no user {fields[USER][row]} in {whole.name}")
        if item != _ALL and item < 0:
            refuse(row, f"{said}: there is no such item in {whole.name}")
        place = named_by(whole, user, None if item == _ALL else item, of_genre.get(genres[row], ()) if genres[row] else None)
        if not len(place):
            refuse(row, f"{said}: they have had nothing of that")
        rule = [original_id(whole.user_ids, user), None if item == _ALL else original_id(whole.item_ids, item),
                genres[row] or None]
        if before[place].all() and (item != _ALL or rule in earlier):  # a wider rule may mean newer ratings, too
            number = int(before[place].max())
            refuse(row, f"{said} was withdrawn before, by request {number} of {requests[number - 1]['time']}")
        if meant[place].all():
            refuse(row, f"{said} is withdrawn by an earlier line already; remove it")
        meant[place] = True
        rules.append(rule)
    return meant & (before == 0), rules
