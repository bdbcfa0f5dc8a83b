"""What a receipt tells a user, and whether it is what the files say.

It holds every interaction of theirs with the decision on it, and the digests of what follows from the decisions. To check
one is to make it anew from the files that are there. Its form: sources/receipts.py; its page: report/receipt_page.py.
"""
from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from urllib.parse import quote

import numpy as np

from .. import __version__
from ..common.errors import InputError
from ..common.files import digest
from ..common.plugins import label
from ..common.variant import Variant, dataset_folder, decision_files
from ..config import Config
from ..constants import DISCLOSED, EXPECTED, INFLUENCE, ITEM, RATINGS_FILE, TITLE, UNWILLINGNESS, USER
from ..dataset import load_dataset, read_interactions
from ..game.decisions import read_decisions
from ..sources.catalogue import load_catalogue, original_id
from ..sources.receipts import DIGEST, FORMAT, sealed
from ..sources.withdrawn import read_requests
from ..training.checkpoint import read_checkpoint
from .explain import VETOED, of_user

STATE = "state"  # of an interaction: one of the following
STATES = TRAINS, WITHHELD, FORBIDDEN, WITHDRAWN = "disclosed", "withheld", "vetoed", "withdrawn"
_ANEW = "get a new receipt with eval.py --receipt USER"
_LONGEST = 100  # signs of an id in a file name


def file_stem(user_id: int | str) -> str:
    """Name of a user's receipt without its ending: of different ids different ones, and safe on any system."""
    name = quote(str(user_id), safe="", errors="surrogatepass")
    if len(name) > _LONGEST:  # no id's name has "%-"
        name = f"{name[:_LONGEST // 2]}%-{hashlib.sha256(name.encode()).hexdigest()[:32]}"
    return f"receipt_{name}"


class Receipts:
    """Receipts about the decisions on the dataset that the settings name.

    Raises:
        InputError: nothing is decided, a file is unfit, or the record of withdrawals is damaged.
    """

    def __init__(self, config: Config):
        if config.holdout == 1:
            raise InputError("--holdout 1: leaves no validation item, so that nothing is decided; leave it out")
        self.config, self.dataset, self.requests = config, load_dataset(config), read_requests(config)
        self.decisions = read_decisions(config, self.dataset)
        if self.decisions is None:
            raise InputError(f"{decision_files(config)[0]}: no decisions on {config.dataset}; run preprocess.py first")
        self.catalogue = load_catalogue(self.dataset, config)
        self.files = files_of(config)
        self.masked = None
        if (dataset_folder(config, masked=True) / RATINGS_FILE).is_file():
            self.masked = read_interactions(Variant(config, masked=True).settings(), masked=True)

    def masked_items(self, user_id: int | str) -> set[str] | None:
        """Ids of a user's items in the masked dataset, as text; None where there is none."""
        if self.masked is None:
            return None
        ids, (users, items, _) = self.masked
        return {str(ids.items[item]) for item in items[ids.users.astype(str)[users] == str(user_id)]}

    def of(self, user: int) -> dict:
        """The receipt of a user, by position: a dict that JSON can hold."""
        own = original_id(self.dataset.user_ids, user)
        withdrawals = [found for request in self.requests if (found := _of_user(request, own))["items"] + found["forbidden"]]
        at = {str(item): found for found in withdrawals for item in found["items"] + found["forbidden"]}
        explained = of_user(user, self.dataset, self.decisions, self.catalogue)
        rows = [_with_state(row, at.get(str(row[ITEM]))) for row in explained["interactions"]]
        held = [("test", self.dataset.test[user]), ("validation", self.dataset.validation[user])]
        record = self.decisions.record
        return sealed({
            "format": FORMAT, "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "program": __version__,
            "dataset": self.config.dataset, USER: own, "model": Variant(self.config, masked=True).model,
            "decision": {"strategy": label(record["strategy"]), "willingness_weight": explained["willingness_weight"],
                         **{key: record[key] for key in ("unwillingness", "wv_budget", "wv", "total_wv")}},
            "interactions": rows,
            "held_out": [{ITEM: original_id(self.dataset.item_ids, item), TITLE: self.catalogue[TITLE][item], "role": name,
                          "trains": False} for name, item in held],
            "vetoes": [row[ITEM] for row in rows if row[STATE] == FORBIDDEN], "withdrawals": withdrawals,
            "files": self.files,
            "rules": [[own, row[ITEM], row[UNWILLINGNESS]] for row in rows]})


def _of_user(request, user):
    """What a request withdrew of a user, and what it forbade that was withheld."""
    items, forbidden = ([item for name, item in request[key] if str(name) == str(user)]
                        for key in ("interactions", "forbidden"))
    return {**{key: request[key] for key in ("request", "time", "model")}, "items": items, "forbidden": forbidden,
            "after": request["after"]}


def _with_state(row, withdrawal):
    """A row of of_user with its STATE; of what was withdrawn the request is the reason."""
    numbers = {key: row[key] if row[key] is not None and np.isfinite(row[key]) else None
               for key in (UNWILLINGNESS, INFLUENCE, EXPECTED)}
    state = FORBIDDEN if row["reason"] == VETOED else TRAINS if row[DISCLOSED] else WITHHELD
    if withdrawal:
        state = WITHDRAWN
        reason = f"withdrawn on {withdrawal['time'][:10]} (request {withdrawal['request']})"
        row = {**row, DISCLOSED: False, "reason": reason}
    return {**row, **numbers, STATE: state}


def files_of(config: Config) -> dict[str, dict]:
    """By name the SHA-256 of each file that decisions rest on or lead to; null with `why` of one that does not follow."""
    variant, files = Variant(config, masked=True), {}
    for folder in (dataset_folder(config), dataset_folder(config, masked=True)):
        files[f"{folder.name}/{RATINGS_FILE}"] = folder / RATINGS_FILE
    masked = list(files)[1]
    files.update((path.name, path) for path in decision_files(config))
    found = {name: {"sha256": digest(path)} if path.is_file() else {"sha256": None, "why": "no such file yet"}
             for name, path in files.items()}
    return {**found, variant.checkpoint.name: _of_checkpoint(variant, found[masked]["sha256"])}


def _of_checkpoint(variant, ratings):
    """The entry of the masked model's checkpoint, trained on a ratings.csv of the digest `ratings`."""
    path, command = variant.checkpoint, variant.command
    if not path.is_file():
        return {"sha256": None, "why": f"no model was trained on what is disclosed yet; {command} does"}
    try:
        info = read_checkpoint(path, f"train anew with {command}")[1]
    except InputError:
        return {"sha256": None, "why": f"is damaged; train anew with {command}"}
    if ratings is None or info.get("ratings_sha256") != ratings:
        return {"sha256": None, "why": f"is stale: trained on other data than the masked ones of now; {command} trains anew"}
    return {"sha256": digest(path), "ratings_sha256": ratings, "base_model": info["settings"]["model"]}


def check(receipt: dict, config: Config) -> Iterator[tuple[str, str]]:
    """What is checked of a receipt that read_receipt has found whole, and the fault that was found, "" for none.

    Raises:
        InputError: it is about another dataset.
    """
    if receipt.get("dataset") != config.dataset:
        raise InputError(f"--verify_receipt {config.verify_receipt}: is about the dataset {receipt.get('dataset')}; give "
                         f"--dataset {receipt.get('dataset')} and its folders")
    said, files = receipt.get("files"), files_of(config)
    for name, now in files.items():
        was = said.get(name) if isinstance(said, dict) else None
        fault = "" if was == now else now.get("why") or f"has changed since, or was not there; {_ANEW}"
        yield f"{name} is what it was", fault
    try:
        receipts = Receipts(config)
        place = {str(name): k for k, name in enumerate(receipts.dataset.user_ids)}
        if str(receipt.get(USER)) not in place:
            raise InputError(f"{config.dataset} has no user {receipt.get(USER)}")
        now = receipts.of(place[str(receipt[USER])])
        masked = receipts.masked_items(now[USER])
    except InputError as e:
        yield "the decisions can be read", str(e)
        return
    for key in now:
        if key not in ("format", "made", "program", "files", DIGEST):
            yield f"{key}: as the files say", _difference(key, receipt.get(key), now[key])
    yield from _check_masked(now, masked)


def _difference(key, was, now):
    """In what a part of a receipt differs from what the files say; "" if it does not."""
    if was == now:
        return ""
    if key == "withdrawals" and isinstance(was, list) and was == now[:len(was)]:
        return f"request {now[len(was)]['request']} of {now[len(was)]['time'][:10]} is not on it yet; {_ANEW}"
    if isinstance(was, list) and isinstance(now, list):
        odd = next((row for row in now if row not in was), None) or next(row for row in [*was, None] if row not in now)
        what = f"item {odd[ITEM]}" if isinstance(odd, dict) and ITEM in odd else "an entry"
        return f"{what} differs, or the order; if it was decided anew, {_ANEW}"
    return f"the files say otherwise; if it was decided anew, {_ANEW}"


def _check_masked(now, masked):
    """Whether the masked data hold of the user what is disclosed, and beside it held-out items alone."""
    for state in (FORBIDDEN, WITHDRAWN, WITHHELD):
        found = [row for row in now["interactions"] if row[STATE] == state and str(row[ITEM]) in (masked or ())]
        yield f"nothing {state} is in the masked data", (
            f"item {found[0][ITEM]} ({found[0][TITLE]}) is; run preprocess.py and train.py --masked again with --overwrite"
            if found else "")
    known = {str(row[ITEM]) for part in ("interactions", "held_out") for row in now[part]}
    if masked is None:
        return
    odd = masked - known
    yield "nothing else is in the masked data", f"item {min(odd)} is, which they never had" if odd else ""
    lost = [row for row in now["interactions"] if row[STATE] == TRAINS and str(row[ITEM]) not in masked]
    yield "all that is disclosed is in the masked data", f"item {lost[0][ITEM]} ({lost[0][TITLE]}) is not" if lost else ""
