"""Requests: what users take back, what they allow again, and the record of that, when, and from which models.

A request is the file `withdraw` or `allow`, a CSV with user_id[,item_id][,genre][,since][,until]. The record is
`withdrawn.jsonl` in the folder of the original dataset: a line of JSON for each request, only ever added to. Each holds the
digest of the line before it, and dataset.json the number of lines and the digest of the last, so that a changed or missing
line is noticed. What is taken back is never disclosed again, in newer ratings neither, until it is allowed.
"""
from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
from pathlib import Path

import numpy as np
import pandas as pd

from ..common.errors import InputError
from ..common.files import read_json
from ..common.tables import existing_file
from ..common.variant import dataset_folder
from ..config import Config
from ..constants import DATASET_FILE, GENRE, ITEM, USER, WITHDRAWN_FILE
from ..sources.catalogue import original_id
from ..sources.interactions import Interactions
from .rules import ALL, BOUNDS, NAMED, Rules, refuse

_KEYS = ("request", "time", "models", "file_sha256", "rules", "interactions", "forbidden", "before", "after",
         "previous_sha256")
ALLOWS = "allows"  # key of a request that allows what others took back
_HEAD = "withdrawals"  # key of dataset.json
_DIGEST = "sha256"  # key of a request that was read, not of its line
_NAMED = [*NAMED, *BOUNDS]  # what a rule of a request says, a list; it may end after the genre


def withdrawn_path(config: Config) -> Path:
    """Path of the record; there may be none."""
    return dataset_folder(config) / WITHDRAWN_FILE


def read_requests(config: Config) -> list[dict]:
    """The requests, in their order.

    Returns: Dicts with the number of the request from 1, `time` (ISO 8601, UTC), `models` (names of those it was taken
        from), `file_sha256` of the request's file, `rules` (lists of user_id, item_id, genre and perhaps since and until,
        None for all), `interactions` (lists of user_id and item_id) that trained a model or were held out, `forbidden`, such
        pairs that were withheld, `allows` (true) if it allows them again, `before` and `after` (dicts of name of a file to
        its SHA-256), `previous_sha256` of the line before, "" for the first, and `sha256` of its own.
    Raises InputError: a line is damaged, or one is missing: names it.
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


def check_head(said: dict, requests: list[dict], where: str | Path) -> int:
    """How many requests `where` knows of, as head_of says them; raises InputError if they are not the first of these."""
    known = said.get(_HEAD, {}).get("requests", 0)
    if said.get(_HEAD) != head_of(requests[:known]).get(_HEAD):
        raise InputError(f"{where}: knows of {known} withdrawals, but {WITHDRAWN_FILE} lacks some; put back a copy of it")
    return known


def with_request(request: dict, requests: list[dict]) -> tuple[str, list[dict]]:
    """A new request as the line that follows those that are there, and all of them."""
    request = {**request, "request": len(requests) + 1, "previous_sha256": requests[-1][_DIGEST] if requests else ""}
    line = json.dumps({key: request[key] for key in (*_KEYS, ALLOWS) if key in request}, ensure_ascii=True)
    return line, [*requests, {**request, _DIGEST: hashlib.sha256(line.encode()).hexdigest()}]


def taken_back(whole: Interactions, config: Config, requests: list[dict]) -> np.ndarray:
    """(n,) int32: the number of the request that takes back each interaction, the first since it was allowed; 0 for none."""
    back = np.zeros(whole.num_interactions, np.int32)
    for allows, several in itertools.groupby(requests, _allows):
        first = _first(whole, config, list(several))
        back = np.where(first == 0, back, 0) if allows else np.where(back == 0, first, back)
    return back


def taken_since(whole: Interactions, config: Config, requests: list[dict]) -> np.ndarray:
    """(n,) int32: the number of the first request that takes back each interaction, allowed later or not; 0 for none."""
    return _first(whole, config, [request for request in requests if not _allows(request)])


def _allows(request):
    return bool(request.get(ALLOWS))


def _first(whole, config, requests):
    named = [(request["request"], rule) for request in requests for key in ("rules", "interactions", "forbidden")
             for rule in request[key]]
    if not named:
        return np.zeros(whole.num_interactions, np.int32)
    number, rules = zip(*named)
    texts = [["" if name is None else str(name) for name in (*rule, None, None, None)[:len(_NAMED)]] for rule in rules]
    table, number = pd.DataFrame(texts, columns=_NAMED), np.array(number, np.int32)
    decides, _ = Rules.of(table, withdrawn_path(config), number, whole, config).match(whole, -number)
    return np.append(number, np.int32(0))[decides]


def read_request(config: Config, whole: Interactions, requests: list[dict],
                 allows: bool = False) -> tuple[np.ndarray, list[list]]:
    """What the file `withdraw` takes back, or with `allows` what the file `allow` allows again.

    A line names a user and an item; a user alone, for all that is theirs; or a user and a genre, of which all is meant: what
    trained a model, what is held out, what is withheld, and what newer ratings bring. With a time it means what is of then.
    whole, requests: all Interactions of the dataset, and what was asked before.
    Returns meant: (n,) bool, the interactions of which the lines change whether they are taken back; rules: what the lines
        say, as the record has it: see read_requests.
    Raises InputError: the file is missing or wrong, or a line names nothing, or changes nothing: names the line.
    """
    option, done = ("allow", "allowed") if allows else ("withdraw", "withdrawn")
    path = existing_file(getattr(config, option), f"give a CSV with {USER}, and {ITEM} or {GENRE} where not all of theirs "
                         "is meant", option)
    rules, = Rules.read(path, whole, config, (USER,), most=None)
    if not len(rules.line):
        raise InputError(f"{path}: names nothing; give at least one line below its header")
    refuse(rules.value != 1, path, f"nothing is {done} by half; leave the column unwillingness out, or write 1", rules.line)
    changes = (taken_back(whole, config, requests) > 0) == allows
    first, met = rules.match(whole, -rules.line)  # the first line that names an interaction
    _, met_anew = rules.match(whole.some(changes))
    asked = []
    for row, names in enumerate(rules.names.T):
        said = rules.said(row)
        user, item = (original_id(ids, at) if at >= 0 else None for ids, at in zip((whole.user_ids, whole.item_ids), names))
        times = [said.get(bound) for bound in BOUNDS]
        asked.append([user, item, rules.genres[1][names[2]] if names[2] >= 0 else None] + times * any(times))
        done_before = not met_anew[row] and (names[1] != ALL or _stands(asked[row], requests, allows))
        if not met[row] or done_before or not (first == row).any():
            spelled = ", ".join(f"{column.removesuffix('_id')} {text}" for column, text in said.items())
            fault = f"is {done} already" if met[row] else f"{whole.name} has nothing of that"
            raise InputError(f"{path}: line {rules.line[row]}: {spelled}: {fault}; remove the line; nothing was {done}")
    return (first >= 0) & changes, asked


def _stands(rule, requests, allows):
    """Whether the last earlier request that is about newer ratings of a rule, which names no item, says the same of them."""
    for request in reversed(requests):
        same = _allows(request) == allows
        for user, item, genre, *time in request["rules"]:
            near = genre in (None, rule[2])
            if (user, item) == (rule[0], None) and (near and time in ([], rule[3:]) if same else near or rule[2] is None):
                return same
    return allows  # nothing is taken back where nobody has asked
