"""What other hosts need of the first one before they can take part: masks, models, records, rules and requests.

The dataset itself they have, made by the same data stage.
"""
import json
from pathlib import Path

import numpy as np

from ..common.errors import InputError
from ..common.files import digest, put_in_place, staged
from ..common.variant import CHECKPOINT, DATA, DECISIONS, DIGESTS, MASKED, OUTPUT, folders_of, record_of
from ..config import Config
from ..constants import DATASET_FILE, WITHDRAWN_FILE
from ..options import GROUPS, KINDS
from .part import Part

_RECORDS = ("*.json", "settings_*.yaml", "disclosure.*")
_SENT = {DATA: (DATASET_FILE, WITHDRAWN_FILE), MASKED: ("*",), DECISIONS: _RECORDS,  # by folder of a run patterns of files
         CHECKPOINT: ("*.ckpt", "seed_*/*.ckpt"), OUTPUT: (*_RECORDS, *(f"seed_*/{name}" for name in _RECORDS))}
_NAMED = "willingness_file", "eval_negatives", "eval_item_list"  # options that name a file
_GOES = ".last.ckpt", ".partial.ckpt"  # what is removed elsewhere if it is not here; also what a mask has no more
_BLOCK = 1 << 24  # bytes


def bring_inputs(config: Config, share: Part, local: int) -> None:
    """Lets the other hosts, of `local` ranks each, have what the first one has; all ranks call it together.

    Raises InputError: a host has other settings, or its dataset is not that of the first one.
    """
    places, say = _places(config), share.exchange.of_first
    told = {"settings": _settings(config), "dataset": record_of(folders_of(config)[DATA]).get(DIGESTS),
            "files": {name: (path.stat().st_size, digest(path)) for name, path in places.items()}} if share.first else None
    told = json.loads(bytes(say(json.dumps(told).encode())))
    host, receives = share.rank // local, share.rank and share.rank % local == 0
    lacks = [receives and (name not in places or digest(places[name]) != sha) for name, (_, sha) in told["files"].items()]
    if receives:
        _check(config, told, host)
    for name, path in places.items() if receives else ():
        if name not in told["files"] and (name.startswith(MASKED) or name.endswith(_GOES)):
            path.unlink()
    wanted = share.either(np.array(lacks, bool))
    for (name, (size, _)), lack, of_any in zip(told["files"].items(), lacks, wanted):
        source = open(places[name], "rb") if share.first and of_any else None
        blocks = (say(source.read(_BLOCK) if share.first else b"") for _ in range(0, size if of_any else 0, _BLOCK))
        if lack:
            with staged(_target(config, name)) as temporary:
                with open(temporary, "wb") as file:
                    file.writelines(blocks)
                put_in_place(temporary, _target(config, name))
        for _ in blocks:  # where it is not lacked
            pass
    share.each(0)


def _places(config):
    """By name what of all that can be sent is here."""
    folders, found = folders_of(config), {}
    for folder, patterns in _SENT.items():
        for path in (path for pattern in patterns for path in folders[folder].glob(pattern)):
            if path.is_file() and path.name[0] != ".":
                found[f"{folder}/{path.relative_to(folders[folder]).as_posix()}"] = path
    return {**found, **{option: _target(config, option) for option in _NAMED if _target(config, option).is_file()}}


def _target(config, name):
    folder, _, rest = name.partition("/")
    return folders_of(config)[folder] / rest if rest else Path(getattr(config, name))


def _settings(config):
    """What must be the same on all hosts: all but names and places."""
    own = {*GROUPS["places"], *GROUPS["hosts"]} - {"overwrite"}
    return {key: value for key, value in config.as_dict().items() if key in KINDS and KINDS[key] != "str" and key not in own}


def _check(config, told, host):
    for key, value in _settings(config).items():
        if told["settings"][key] != value:
            raise InputError(f"--{key} {value}: here, but {told['settings'][key]} on host 0; give the same options")
    folder = folders_of(config)[DATA]
    own = record_of(folder).get(DIGESTS, {})
    for name, sha in (told["dataset"] or {}).items():
        if own.get(name) != sha:
            raise InputError(f"{folder / name}: is not on host {host} what it is on host 0; make the dataset there from the "
                             "same file with scripts/run_download_dataset.sh, or copy the folder")
