"""What users ask to take back: the file `withdraw`, a CSV with user_id[,item_id][,genre]."""
from __future__ import annotations

import dataclasses

import numpy as np

from ..common.errors import InputError
from ..common.tables import existing_file
from ..config import Config
from ..constants import GENRE, ITEM, USER
from ..sources.catalogue import original_id
from ..sources.interactions import Interactions
from .rules import ALL, NAMED, UNKNOWN, Rules, listed
from .withdrawn import taken_back

_WORDS = [column.removesuffix("_id") for column in NAMED]


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
    rules = Rules.read(path, whole, config, (USER,))
    if not len(rules.line):
        raise InputError(f"{path}: names nothing; give at least one line below its header")
    if (rules.value != 1).any():
        raise InputError(f"{path}: line {listed(rules.line[rules.value != 1])}: nothing is withdrawn by half; leave the "
                         "column unwillingness out, or write 1")
    before, ids = taken_back(whole, config, requests), (whole.user_ids, whole.item_ids, rules.genres and rules.genres[1])
    first, met = rules.match(whole, -np.arange(len(rules.line)))  # the first line that names an interaction
    left = dataclasses.replace(whole, **{name: getattr(whole, name)[before == 0] for name in ("user", "item", "rows")})
    _, met_anew = rules.match(left)
    asked, earlier = [], [rule for request in requests for rule in request["rules"]]
    for row, names in enumerate(rules.names.T):
        fault = None
        asked.append([None if at < 0 else original_id(known, at) for known, at in zip(ids, names)])
        if (names == UNKNOWN).any():
            fault = f"there is no such {_WORDS[(names == UNKNOWN).argmax()]} in {whole.name}"
        elif not met[row]:
            fault = "they have had nothing of that"
        elif not met_anew[row] and (names[1] != ALL or asked[row] in earlier):  # a wider rule may mean newer ratings, too
            fault = "was withdrawn before"
        elif not (first == row).any():
            fault = "is withdrawn by an earlier line already; remove it"
        if fault:
            said = ", ".join(f"{word} {rules.text[column][row]}" for word, column, at in zip(_WORDS, NAMED, names)
                             if at != ALL)
            raise InputError(f"{path}: line {rules.line[row]}: {said}: {fault}; nothing was withdrawn")
    return (first >= 0) & (before == 0), asked
