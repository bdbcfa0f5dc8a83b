"""Withdrawals: what users ask to take back, and the record of what they have, when, and from which models.

A request is the file `withdraw`, a CSV with user_id[,item_id][,genre]. The record is `withdrawn.jsonl` in the folder of the
original dataset: a line of JSON for each request, only ever added to. Each holds the digest of the line before it, and
dataset.json the number of lines and the digest of the last, so that a changed or missing line is noticed. What a request is
about is never disclosed again, in newer ratings neither.
"""
from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np

from ..common.errors import InputError
from ..common.files import read_json
from ..common.tables import existing_file
from ..common.variant import dataset_folder
from ..config import Config
from ..constants import DATASET_FILE, GENRE, ITEM, USER, WITHDRAWN_FILE
from ..sources.catalogue import original_id
from ..sources.interactions import Interactions
from .rules import ALL, NAMED, UNKNOWN, Rules, listed

_KEYS = ("request", "time", "models", "file_sha256", "rules", "interactions", "forbidden", "before", "after",
         "previous_sha256")
_HEAD = "withdrawals"  # key of dataset.json
_DIGEST = "sha256"  # key of a request that was read, not of its line
_WORDS = [column.removesuffix("_id") for column in NAMED]


def withdrawn_path(config: Config) -> Path:
    """Path of the record; there may be none."""
    return dataset_folder(config) / WITHDRAWN_FILE


def read_requests(config: Config) -> list[dict]:
    """The requests, in their order.

    Returns:
        Dicts with the number of the request from 1, `time` (ISO 8601, UTC), `models` (names of those it was taken from),
        `file_sha256` of the request's file, `rules` (list of [user_id, item_id or None, genre or None]: what it is about),
        `interactions` (list of [user_id, item_id], original ids) that trained a model or were held out, `forbidden`, such
        pairs that were withheld, `before` and `after` (dicts of name of a file to its SHA-256), `previous_sha256` of the
        line before, "" for the first, and `sha256` of its own.

    Raises:
        InputError: a line is damaged, or one is missing: names it.
    """
    path = withdrawn_path(config)
    requests, previous = [], ""
    for number, line in enumerate(path.read_bytes().splitlines() if path.is_file() else [], 1):
        try:
            request = json.loads(line)
            request.setdefault("models", [request.pop("model", None)])  # of earlier versions, which knew no rules
            request.setdefault("rules", [])
            sound = set(_KEYS) <= set(request) and request["request"] == number and request["previous_sha256"] == previous
        except (ValueError, TypeError, AttributeError):
            sound = False
        if not sound:
            raise InputError(f"{path}: line {number} was changed, or one before it; put back a copy of the file")
        previous = hashlib.sha256(line).hexdigest()
        requests.append({**request, _DIGEST: previous})
    record, said = path.with_name(DATASET_FILE), None
    with contextlib.suppress(InputError):  # who reads the dataset says if its record is missing or damaged
        content = read_json(record, "")
        said = None if "masked_from" in content else content.get(_HEAD)  # else those of its source
    if said is not None and said != head_of(requests).get(_HEAD):
        raise InputError(f"{path}: holds {len(requests)} requests, which do not end as the {said['requests']} that {record} "
                         "knows of: a line was changed, or is missing; put back a copy of the file")
    return requests


def head_of(requests: list[dict]) -> dict:
    """What dataset.json and checkpoints say of the record: the number of requests, and the digest of the last line."""
    return {_HEAD: {"requests": len(requests), "head_sha256": requests[-1][_DIGEST]}} if requests else {}


def check_head(said: dict, requests: list[dict], where: str | Path) -> None:
    """Raises InputError if the requests that `where` knows of, as head_of says them, are not the first of these."""
    if (head := said.get(_HEAD)) is not None:
        if len(requests) < head["requests"] or requests[head["requests"] - 1][_DIGEST] != head["head_sha256"]:
            raise InputError(f"{where}: knows of {head['requests']} withdrawals, but {WITHDRAWN_FILE} lacks some; put back "
                             "a copy of the file")


def with_request(request: dict, requests: list[dict]) -> tuple[str, list[dict]]:
    """A new request as the line that follows those that are there, and all of them."""
    request = {**request, "request": len(requests) + 1, "previous_sha256": requests[-1][_DIGEST] if requests else ""}
    line = json.dumps({key: request[key] for key in _KEYS}, ensure_ascii=True)
    return line, [*requests, {**request, _DIGEST: hashlib.sha256(line.encode()).hexdigest()}]


def taken_back(whole: Interactions, config: Config, requests: list[dict]) -> np.ndarray:
    """(n,) int32: the number of the first request that takes back each interaction; 0 for none.

    Raises:
        InputError: a request is about a genre, and no genres are known.
    """
    named = [(rule, request["request"]) for request in requests for rule in (
        *request["rules"], *([*pair, None] for pair in request["interactions"] + request["forbidden"]))]
    number = np.array([*(number for _, number in named), 0], np.int32)
    decides, _ = Rules.of_ids([rule for rule, _ in named], whole, config).match(whole, -number[:-1])
    return number[decides]


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
        rules: list of [user_id, item_id or None, genre or None], as read_requests says them.

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
