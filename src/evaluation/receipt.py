"""What a receipt tells a user, and whether it is what the files say.

It holds every interaction of theirs with the decision on it, and the digests of what follows from the decisions. To check
one is to make it anew from the files that are there. Its form: consent/receipts.py; its page: report/receipt_page.py.
"""
from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Iterator
from urllib.parse import quote

from .. import __version__
from ..common.errors import InputError
from ..common.files import digest, read_json
from ..common.plugins import label
from ..common.stage import Stage
from ..common.stored import stored
from ..common.tables import read_parts
from ..common.variant import Variant, dataset_folder, decision_files
from ..config import Config
from ..consent.receipts import ANEW, DIGEST, FORMAT, sealed
from ..consent.withdrawn import ALLOWS, read_requests
from ..constants import DISCLOSED, HELD_OUT_FILE, ITEM, RATINGS_FILE, REASON, TITLE, UNWILLINGNESS, USER
from ..dataset import load_dataset
from ..game.decisions import UPDATES, decided
from ..sources.catalogue import find_users, load_catalogue, original_id
from ..training.checkpoint import DIGEST as PARAMETERS
from ..training.checkpoint import read_checkpoint
from .explain import BY, VETOED, of_user
from .explain import WITHDRAWN as TAKEN_BACK

PROVES = ("that it agrees with the files of who runs the recommender, as they are when it is checked; it is not signed, and "
          "says nothing of other files or models")
STATE = "state"  # of an interaction: one of the following
STATES = TRAINS, WITHHELD, FORBIDDEN, WITHDRAWN = "disclosed", "withheld", "vetoed", "withdrawn"


def file_stem(user_id: int | str) -> str:
    """Name of a user's receipt without its ending: of different ids different ones, and safe on any system."""
    name = quote(str(user_id), safe="", errors="surrogatepass")
    if len(name) > 100:  # no id's name has "%-"
        name = f"{name[:50]}%-{hashlib.sha256(name.encode()).hexdigest()[:32]}"
    return f"receipt_{name}"


class Receipts:
    """Receipts about the decisions on the dataset that the settings name.

    Raises InputError: nothing is decided, a file is unfit, or the record of withdrawals is damaged.
    """

    def __init__(self, config: Config):
        self.config, self.requests = config, read_requests(config)
        self.dataset, self.decisions = decided(config)
        self.catalogue = load_catalogue(self.dataset, config)
        self.files = files_of(config)
        self.masked = dataset_folder(config, masked=True)
        if stored(self.masked / RATINGS_FILE).is_file():  # it must fit
            load_dataset(Variant(config, masked=True).settings(), masked=True)

    def of(self, user: int) -> dict:
        """The receipt of a user, by position: a dict that JSON can hold."""
        own = original_id(self.dataset.user_ids, user)
        withdrawals = [found for found in (_of_user(request, own) for request in self.requests)  # and what allows them again
                       if found["items"] or found["forbidden"] or found["rules"]]
        explained = of_user(user, self.dataset, self.decisions, self.catalogue)
        rows = [_with_state(row, self.requests) for row in explained["interactions"]]
        held = [(name, items[user]) for name, items in (("test", self.dataset.test), ("validation", self.dataset.validation))
                if items is not None and items[user] >= 0]
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
            "files": self.files, "proves": PROVES,
            "rules": [[own, row[ITEM], row[UNWILLINGNESS]] for row in rows if row[UNWILLINGNESS] is not None]})


def _of_user(request, user):
    """What a request took back of a user, or with ALLOWS allowed: rules and items, and what it forbade that was withheld."""
    items, forbidden, rules = ([rest for name, *rest in request[key] if str(name) == str(user)]
                               for key in ("interactions", "forbidden", "rules"))
    return {**{key: request[key] for key in ("request", "time", "models", ALLOWS) if key in request}, "rules": rules,
            "items": sum(items, []), "forbidden": sum(forbidden, []), "after": request["after"]}


def _with_state(row, requests):
    """A row of of_user with its STATE; of what was withdrawn the request is the reason."""
    state = {VETOED: FORBIDDEN, TAKEN_BACK: WITHDRAWN}.get(row[REASON], TRAINS if row[DISCLOSED] else WITHHELD)
    if state == WITHDRAWN:
        number = int(row[BY].split()[-1])
        row = {**row, REASON: f"withdrawn on {requests[number - 1]['time'][:10]} (request {number})"}
    return {**row, STATE: state}


def files_of(config: Config) -> dict[str, dict]:
    """By name the SHA-256 of each file that decisions rest on or lead to; null with `why` of one that does not follow."""
    variant, masked = Variant(config, masked=True), dataset_folder(config, masked=True)
    tables = [stored(path) for path in (dataset_folder(config) / RATINGS_FILE, masked / RATINGS_FILE,
                                        *[masked / HELD_OUT_FILE] * (config.holdout > 0))]
    files = {f"{path.parent.name}/{path.name}": path for path in tables}
    files.update((path.name, path) for path in decision_files(config))
    found = {name: {"sha256": digest(path)} if path.is_file() else {"sha256": None, "why": "no such file yet"}
             for name, path in files.items()}
    ratings = found[f"{masked.name}/{tables[1].name}"]["sha256"]
    return {**found, variant.checkpoint.name: _of_checkpoint(variant, ratings, read_requests(config))}


def _of_checkpoint(variant, ratings, requests):
    """The entry of the masked model's checkpoint, trained on a ratings.csv of the digest `ratings`."""
    path, command = variant.checkpoint, variant.command
    if not path.is_file():
        return {"sha256": None, "why": f"no model was trained on what is disclosed yet; {command} does"}
    info = {}
    with contextlib.suppress(InputError):  # it is damaged
        info = read_checkpoint(path, "")[1]
    if ratings is None or info.get("ratings_sha256") != ratings:
        return {"sha256": None, "why": f"is not of the masked data of now, or damaged; {command} trains anew"}
    trained = Stage.read_record(variant.config.output_path, f"train_{variant.model.lower()}").get("outputs", {})
    path_of_record = decision_files(variant.config)[1]
    record = read_json(path_of_record, ANEW) if path_of_record.is_file() else {}
    later = [request["after"].get(path.name) for request in requests]
    later += [update["models"].get(variant.model) for update in record.get(UPDATES, ())]
    if trained.get(path.name, digest(path)) != digest(path) and info.get(PARAMETERS) not in later:
        return {"sha256": None, "why": f"is not what a training, an update or a withdrawal wrote; {command} --overwrite "
                                      "trains anew"}
    return {"sha256": digest(path), "ratings_sha256": ratings, "base_model": label(info["settings"]["model"])}


def check(receipt: dict, config: Config) -> Iterator[tuple[str, str]]:
    """What is checked of a receipt of read_receipt, and the fault, "" for none; InputError if it is about other data."""
    if receipt.get("dataset") != config.dataset:
        raise InputError(f"--verify_receipt {config.verify_receipt}: is about the dataset {receipt.get('dataset')}; give "
                         f"--dataset {receipt.get('dataset')} and its folders")
    said = receipt.get("files")
    try:
        for name, now in files_of(config).items():
            was = said.get(name) if isinstance(said, dict) else None
            fault = "" if was == now else now.get("why") or f"has changed since, or was not there; {ANEW}"
            yield f"{name} is what it was", fault
        receipts = Receipts(config)
        now = receipts.of(find_users(receipts.dataset, str(receipt.get(USER)), "verify_receipt")[0])
    except InputError as e:
        yield "the decisions can be read", str(e)
        return
    for key in {**now, **receipt}:
        if key not in ("format", "made", "program", "files", DIGEST):
            yield f"{key}: as the files say", _difference(key, receipt.get(key), now.get(key))
    if stored(receipts.masked / RATINGS_FILE).is_file():
        yield from _check_masked(now, receipts.masked)


def _difference(key, was, now):
    """In what a part of a receipt differs from what the files say; "" if it does not."""
    if was == now:
        return ""
    odd = [row for row in now if row not in was] if key == "interactions" and isinstance(was, list) else []
    what = f"item {odd[0][ITEM]} differs" if odd else "the files say otherwise"
    return f"{what}; if a decision or a request came since, {ANEW}"


def _check_masked(now, folder):
    """Whether the tables of the masked dataset hold of the user just what is disclosed, and beside it what is held out."""
    trains, held = ({str(item) for part in (read_parts(path, [USER, ITEM]) if path.is_file() else ())
                     for item in part[ITEM][part[USER].astype(str) == str(now[USER])]}
                    for path in (stored(folder / name) for name in (RATINGS_FILE, HELD_OUT_FILE)))
    anew = "run preprocess.py and train.py --masked again with --overwrite"
    disclosed = {str(row[ITEM]) for row in now["interactions"] if row[STATE] == TRAINS}
    odd = trains - disclosed | held - {str(row[ITEM]) for row in now["held_out"]}
    for name, wrong, said in (("nothing else is in the masked data", odd, f"is; {anew}"),
                              ("all that is disclosed is in the masked data", disclosed - trains, f"is not; {anew}")):
        yield name, f"item {min(wrong)} {said}" if wrong else ""
