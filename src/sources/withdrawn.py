"""The record of withdrawals: which interactions their users have taken back, when, and from which model.

`withdrawn.jsonl` in the folder of the original dataset: a line of JSON for each request, only ever added to. Each holds the
digest of the line before it, so that a changed or missing line is noticed. What it lists is never disclosed again.
"""
from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd

from ..common.columns import positions
from ..common.errors import InputError
from ..common.variant import dataset_folder
from ..config import Config
from ..constants import ITEM, MASKED_MODEL, USER, WITHDRAWN_FILE
from ..dataset import Dataset
from ..stat_utils import PairSet

_KEYS = ("request", "time", "model", "file_sha256", "interactions", "forbidden", "before", "after", "previous_sha256")


def withdrawn_path(config: Config) -> Path:
    """Path of the record; there may be none."""
    return dataset_folder(config) / WITHDRAWN_FILE


def read_requests(config: Config) -> list[dict]:
    """The requests, in their order.

    Returns:
        Dicts with the number of the request from 1, `time` (ISO 8601, UTC), `model` (IFRQE, or the plain one's name),
        `file_sha256` of the request's file, `interactions` (list of [user_id, item_id], original ids) that left the model,
        `forbidden`, such pairs that were withheld but are named by the request, `before` and `after` (dicts of name of a
        file to its SHA-256), and `previous_sha256` of the line before, "" for the first.

    Raises:
        InputError: a line is damaged, or one is missing: names it.
    """
    path = withdrawn_path(config)
    requests, previous = [], ""
    for number, line in enumerate(path.read_bytes().splitlines() if path.is_file() else [], 1):
        try:
            request = json.loads(line)
            sound = set(_KEYS) <= set(request) and request["request"] == number and request["previous_sha256"] == previous
        except (ValueError, TypeError):
            sound = False
        if not sound:
            raise InputError(f"{path}: line {number} was changed, or one before it; put back a copy of the file")
        requests.append(request)
        previous = hashlib.sha256(line).hexdigest()
    return requests


def line_of(request: dict, requests: list[dict]) -> str:
    """A new request as the line that follows those that are there."""
    previous = hashlib.sha256(_text(requests[-1]).encode()).hexdigest() if requests else ""
    return _text({**request, "request": len(requests) + 1, "previous_sha256": previous})


def _text(request):
    return json.dumps({key: request[key] for key in _KEYS}, ensure_ascii=True)


def withdrawn_from(dataset: Dataset, config: Config) -> np.ndarray:
    """(n,) bool: the interactions of a dataset that requests name: withdrawn from a model, or forbidden with them."""
    return _listed([pair for request in read_requests(config)
                    for pair in request["interactions"] + request["forbidden"]], dataset)


def _listed(pairs, dataset):
    """(n,) bool: the interactions that are among `pairs` of original ids."""
    if not pairs:
        return np.zeros(dataset.num_interactions, bool)
    user, item = (positions(ids, list(map(str, column))) for ids, column in
                  zip((dataset.user_ids, dataset.item_ids), zip(*pairs)))
    known = (user >= 0) & (item >= 0)
    return PairSet(user[known], item[known], dataset.num_users, dataset.num_items).contains(dataset.user, dataset.item)


def without_withdrawn(ratings: pd.DataFrame, config: Config) -> pd.DataFrame:
    """Ratings of a source without what was withdrawn from a plain model, which else would come back with them."""
    pairs = [tuple(map(str, pair)) for request in read_requests(config) if request["model"] != MASKED_MODEL
             for pair in request["interactions"]]
    if not pairs:
        return ratings
    listed = pd.MultiIndex.from_arrays([ratings[USER].astype(str), ratings[ITEM].astype(str)]).isin(pairs)
    return ratings[~listed]
