"""Requests: what users take back, what they allow again, and the record of that, when, and from which models.

A request is the file `withdraw` or `allow`, a CSV with user_id[,item_id][,genre][,since][,until]. The record is
`withdrawn.jsonl` in the folder of the original dataset: a line of JSON for each request, only ever added to. Each holds the
digest of the line before it, and dataset.json the number of lines and the digest of the last, so that a changed or missing
line is noticed. What is taken back is never disclosed again, in newer ratings neither, until it is allowed.
"""
from __future__ import annotations

import contextlib
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
from .rules import ALL, BOUNDS, NAMED, UNKNOWN, Rules, listed

_KEYS = ("request", "time", "models", "file_sha256", "rules", "interactions", "forbidden", "before", "after",
         "previous_sha256")
ALLOWS = "allows"  # key of a request that allows what others took back
_HEAD = "withdrawals"  # key of dataset.json
_DIGEST = "sha256"  # key of a request that was read, not of its line
_WITHDRAWN, _ALLOWED = {"is": "withdrawn", "before": "was withdrawn before"}, {"is": "allowed", "before": "is not withdrawn"}
_WORDS = [column.removesuffix("_id") for column in NAMED]


def withdrawn_path(config: Config) -> Path:
    """Path of the record; there may be none."""
    return dataset_folder(config) / WITHDRAWN_FILE


def read_requests(config: Config) -> list[dict]:
    """The requests, in their order.

    Returns:
        Dicts with the number of the request from 1, `time` (ISO 8601, UTC), `models` (names of those it was taken from),
        `file_sha256` of the request's file, `rules` (what it is about, see Rules.of_ids), `interactions` (list of [user_id,
        item_id], original ids) that trained a model or were held out, `forbidden`, such pairs that were withheld, `allows`
        (true) if it allows them again, `before` and `after` (dicts of name of a file to its SHA-256), `previous_sha256` of
        the line before, "" for the first, and `sha256` of its own.

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


def check_head(said: dict, requests: list[dict], where: str | Path) -> int:
    """How many requests `where` knows of, as head_of says them; raises InputError if they are not the first of these."""
    if (head := said.get(_HEAD)) is not None:
        if len(requests) < head["requests"] or requests[head["requests"] - 1][_DIGEST] != head["head_sha256"]:
            raise InputError(f"{where}: knows of {head['requests']} withdrawals, but {WITHDRAWN_FILE} lacks some; put back "
                             "a copy of the file")
    return said.get(_HEAD, {}).get("requests", 0)


def with_request(request: dict, requests: list[dict]) -> tuple[str, list[dict]]:
    """A new request as the line that follows those that are there, and all of them."""
    request = {**request, "request": len(requests) + 1, "previous_sha256": requests[-1][_DIGEST] if requests else ""}
    line = json.dumps({key: request[key] for key in (*_KEYS, ALLOWS) if key in request}, ensure_ascii=True)
    return line, [*requests, {**request, _DIGEST: hashlib.sha256(line.encode()).hexdigest()}]


def taken_back(whole: Interactions, config: Config, requests: list[dict]) -> np.ndarray:
    """(n,) int32: the number of the request that takes back each interaction, the first since it was allowed; 0 for none.

    Raises:
        InputError: a request is about a genre or a time, and none are known.
    """
    rules, number, allows = _rules(whole, config, requests)
    allowed = _met_by(whole, rules, number, allows, last=True)
    back = np.zeros_like(allowed)
    for start in np.unique(allowed):
        part = allowed == start
        back[part] = _met_by(whole if part.all() else whole.some(part), rules, number, ~allows & (number > start))
    return back


def taken_since(whole: Interactions, config: Config, requests: list[dict]) -> np.ndarray:
    """(n,) int32: the number of the first request that takes back each interaction, allowed later or not; 0 for none."""
    rules, number, allows = _rules(whole, config, requests)
    return _met_by(whole, rules, number, ~allows)


def _rules(whole, config, requests):
    """The Rules of requests and of the pairs that they name, with the request of each, and whether it allows, (r,)."""
    named = [(rule, request["request"], bool(request.get(ALLOWS))) for request in requests for rule in (
        *request["rules"], *([*pair, None] for pair in request["interactions"] + request["forbidden"]))]
    rules, number, allows = zip(*named) if named else ((), (), ())
    return Rules.of_ids(rules, whole, config) if named else None, np.array(number, np.int32), np.array(allows, bool)


def _met_by(whole, rules, number, chosen, last=False):
    """(n,) int32, the first or the last number of the chosen rules, (r,) bool, that each interaction meets; 0 for none."""
    if not chosen.any():
        return np.zeros(whole.num_interactions, np.int32)
    decides, _ = rules.some(chosen).match(whole, number[chosen] if last else -number[chosen])
    return np.append(number[chosen], np.int32(0))[decides]


def read_request(config: Config, whole: Interactions, requests: list[dict],
                 allows: bool = False) -> tuple[np.ndarray, list[list]]:
    """What the file `withdraw` takes back, or with `allows` what the file `allow` allows again.

    A line names a user and an item; a user alone, for all that is theirs; or a user and a genre, of which all is meant: what
    trained a model, what is held out, what is withheld, and what newer ratings bring. With a time it means what is of then.

    Args:
        config: withdraw or allow, and where the dataset is.
        whole: all Interactions of the dataset.
        requests: those that were carried out before.

    Returns:
        meant: (n,) bool, the interactions of which the lines change whether they are taken back.
        rules: what the lines say, see Rules.of_ids.

    Raises:
        InputError: the file is missing or wrong, or a line names nothing, or changes nothing: names the line.
    """
    option, words = ("allow", _ALLOWED) if allows else ("withdraw", _WITHDRAWN)
    path = existing_file(getattr(config, option), f"give a CSV with {USER}, and {ITEM} or {GENRE} where not all of theirs "
                         "is meant", option)
    rules = Rules.read(path, whole, config, (USER,))
    if not len(rules.line):
        raise InputError(f"{path}: names nothing; give at least one line below its header")
    if (rules.value != 1).any():
        raise InputError(f"{path}: line {listed(rules.line[rules.value != 1])}: nothing is {words['is']} by half; leave the "
                         "column unwillingness out, or write 1")
    changes = (taken_back(whole, config, requests) > 0) == allows
    first, met = rules.match(whole, -np.arange(len(rules.line)))  # the first line that names an interaction
    _, met_anew = rules.match(whole.some(changes))
    ids, asked = (whole.user_ids, whole.item_ids, rules.genres and rules.genres[1]), []
    times = rules.text.reindex(columns=BOUNDS, fill_value="").astype(str).apply(lambda text: text.str.strip()).to_numpy()
    for row, names in enumerate(rules.names.T):
        fault = None
        asked.append([None if at < 0 else original_id(known, at) for known, at in zip(ids, names)]
                     + [time or None for time in times[row]] * any(times[row]))
        if (names == UNKNOWN).any():
            fault = f"there is no such {_WORDS[(names == UNKNOWN).argmax()]} in {whole.name}"
        elif not met[row]:
            fault = "they have had nothing of that"
        elif not met_anew[row] and (names[1] != ALL or _stands(asked[row], requests, allows)):
            fault = words["before"]
        elif not (first == row).any():
            fault = f"is {words['is']} by an earlier line already; remove it"
        if fault:
            said = ", ".join(f"{word} {rules.text[column][row]}" for word, column, named in zip(
                (*_WORDS, *BOUNDS), (*NAMED, *BOUNDS), (*(names != ALL), *times[row])) if named)
            raise InputError(f"{path}: line {rules.line[row]}: {said}: {fault}; nothing was {words['is']}")
    return (first >= 0) & changes, asked


def _stands(rule, requests, allows):
    """Whether the last earlier request that is about newer ratings of a rule, which names no item, says the same of them."""
    for request in reversed(requests):
        same = bool(request.get(ALLOWS)) == allows
        for user, item, genre, *time in request["rules"]:
            near = genre in (None, rule[2])
            if (user, item) == (rule[0], None) and (near and time in ([], rule[3:]) if same else near or rule[2] is None):
                return same
    return allows  # nothing is taken back where nobody has asked
