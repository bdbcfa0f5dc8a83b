"""Checkpoints: several sets of parameters of a network, and what they were trained on."""
import errno
import hashlib
import json
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Tensor

from ..common.errors import InputError
from ..common.files import atomic_write, digest
from ..common.plugins import label
from ..common.share import here
from ..common.stored import stored
from ..common.variant import ratings_path
from ..consent.allowed import Consent
from ..consent.withdrawn import check_head, read_requests
from ..constants import EARLIER, HELD_OUT_FILE, MOVIES_FILE, RATINGS_FILE
from ..network import build

DIGEST = "parameters_sha256"  # key of what belongs to a checkpoint
TRAINED_ROWS = "trained_rows"  # key of what belongs to a checkpoint: how many rows of its ratings.csv it was trained on
BEST, ANCHOR = "best.", "anchor{}."  # prefixes of the sets of parameters in a checkpoint; {} is the number of an epoch
_CHANGED = {  # by field of what belongs to a checkpoint: how it was trained, if this is not what is there now
    "catalogue_sha256": f"with other items or users than {MOVIES_FILE} and {RATINGS_FILE} have now",
    "ratings_sha256": f"on another {RATINGS_FILE} than the one that is there now",
    "held_out_sha256": f"on another {HELD_OUT_FILE} than the one that is there now",
    "rows_sha256": "on other interactions than may be used now, since vetoes or withdrawals have changed"}


def trained_part(info, rows):
    """(n,) bool: of (n,) rows of the ratings.csv that a checkpoint belongs to those it was trained on, not updated with."""
    return rows < info.get(TRAINED_ROWS, np.inf)


def save_checkpoint(path, sets, info):
    """Writes several sets of arrays whole to `path`.

    `sets`: dict of prefix to dict of name to array, as Network.values() gives; `info`: dict of what belongs to them.
    """
    if not here().first:
        return
    values = in_one(sets)
    parameters = [{"name": name, "data": Tensor.from_numpy(np.ascontiguousarray(value))} for name, value in values.items()]
    info = {**info, DIGEST: parameters_sha256(values)}
    with atomic_write(path) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode  # by the process's mask of permissions, which MindSpore does not go by
        try:
            ms.save_checkpoint(parameters, str(temporary), append_dict={"info": json.dumps(info)})
        except RuntimeError as e:  # MindSpore's word for what the system refused
            cause = e.__cause__ or e.__context__
            raise cause if isinstance(cause, OSError) else OSError(errno.EIO, str(e).splitlines()[0], str(path)) from e
        temporary.chmod(mode)


def in_one(sets):
    """The arrays of several sets by prefix and name."""
    return {prefix + name: np.asarray(value) for prefix, values in sets.items() for name, value in values.items()}


def with_prefix(values, prefix):
    """The entries whose names begin with `prefix`, by the rest of their names."""
    return {name[len(prefix):]: value for name, value in values.items() if name.startswith(prefix)}


def parameters_sha256(values):
    state = hashlib.sha256()
    for name in sorted(values):
        state.update(f"{name} {values[name].dtype} {values[name].shape}\0".encode())
        state.update(np.ascontiguousarray(values[name]).ravel())
    return state.hexdigest()


def read_checkpoint(path, remedy):
    """What save_checkpoint wrote: a dict of prefixed name to array, and `info`.

    Raises InputError: no checkpoint of this program, or a damaged one; `remedy` ends the message.
    """
    try:
        content = ms.load_checkpoint(str(path))
        info = json.loads(content.pop("info"))
        info["settings"] = {**EARLIER, **info.get("settings", {})}
        values = {name: p.asnumpy() for name, p in content.items()}
        if "anchor_epochs" not in info or DIGEST in info and info[DIGEST] != parameters_sha256(values):
            raise ValueError("of an early version, or with zeros in place of parameters, for example")
        return values, info
    except (ValueError, KeyError, TypeError, RuntimeError) as e:
        raise InputError(f"{path}: is no checkpoint of this program, or is damaged; {remedy}") from e


def check_checkpoint(path, info, wanted, remedy):
    """Raises InputError naming the first field of `wanted`, settings or others, that a checkpoint does not agree with."""
    info = {**info, **info["settings"]}
    for field, value in wanted.items():
        if (was := info.get(field)) != value:
            said = _CHANGED.get(field, f"with {field}={was}, but {field}={value} is needed here")
            if field == "model" and label(was) == label(value):
                said = f"with another version of {value.split('@')[0]}, which has changed since"
            raise InputError(f"{path}: was trained {said}; {remedy}")


def consent_of(variant):
    """The Consent that the plain model of a Variant was trained with, without what was withdrawn from it since.

    Raises InputError: no such checkpoint, no checkpoint of this program, or withdrawals that it knows of are missing.
    """
    info = _read(variant.checkpoint, variant)[1]
    check_head(info, read_requests(variant.config), variant.checkpoint)
    return Consent.of_json(info.get("consent"))


def _read(path, variant):
    if not Path(path).is_file():
        raise InputError(f"{path}: no such checkpoint; make it with {variant.command} first, or set --checkpoint_path")
    return read_checkpoint(path, f"train anew with {variant.command}")


def load_checkpoint(path, dataset, variant):
    """The network of a checkpoint with the parameters that rank best, and its info; takes and raises what load_sets does."""
    net, sets, info = load_sets(path, dataset, variant)
    net.set_values(sets[BEST])
    return net, info


def load_anchors(path, dataset, variant):
    """By epoch the parameters that influences are computed from, see Network.values, the anchor last; and the info.

    Takes and raises what load_sets does.
    """
    _, sets, info = load_sets(path, dataset, variant)
    return {epoch: sets[ANCHOR.format(epoch)] for epoch in info["anchor_epochs"]}, info


def load_sets(path, dataset, variant):
    """Of a checkpoint a Network, still with its own parameters; the sets BEST and those of the anchor epochs; and the info.

    dataset: Dataset that it must have been trained for.
    variant: Variant whose ratings and settings (dataset, holdout, those of the model) must be those of the checkpoint.
    Raises InputError: no such file, no checkpoint of this program, or one that differs: the message says in what.
    """
    config, command = variant.settings(), variant.command
    asked = config.asked_for("training", "negatives")
    if not config.holdout and "train_epochs" not in config.given:  # a study says how many, whatever a recipe does
        asked.pop("train_epochs", None)
    values, info = _read(path, variant)
    net, ratings = build(dataset, config), ratings_path(config, variant.masked)
    check_checkpoint(path, info, {
        "model": config.select("model")["model"], **asked, "dataset": config.dataset,
        "holdout": config.holdout, **net.shape, "ratings_sha256": digest(ratings),
        "catalogue_sha256": dataset.catalogue_sha256(),
        **({} if not variant.masked or not config.holdout else
           {"held_out_sha256": digest(stored(ratings.with_name(HELD_OUT_FILE)))})},
        f"train anew with {command}, or name another --checkpoint_path")
    if not variant.masked and ("rows_sha256" in info or dataset.dropped is not None):
        said = {**config.select("unwillingness"), "willingness_file": config.willingness_file}
        veto = " --veto" + "".join(f" --{key} {value}" for key, value in said.items() if key in config.given - {"veto"})
        check_checkpoint(path, info, {"rows_sha256": dataset.rows_sha256()},
                         f"train anew with {command} --overwrite{veto if config.veto else ''}")
    sets = {prefix: net.rows_by(dataset.own, with_prefix(values, prefix))
            for prefix in (BEST, *map(ANCHOR.format, info["anchor_epochs"]))}
    shapes = {name: value.shape for name, value in net.values().items()}
    if any({name: value.shape for name, value in one.items()} != shapes for one in sets.values()):
        raise InputError(f"{path}: lacks parameters or has others than this network; train anew with {command}")
    return net, sets, info
