"""Decisions and recommendations for users who were in no training, at the price and by the regression of a run.

Nothing is trained and nothing written: their embedding rows are refitted, the parameters that users share stay as they are.
See docs/method.md, "A newcomer".
"""
from __future__ import annotations

import logging

import numpy as np

from ..common.errors import InputError
from ..common.terminal import off_the_record
from ..common.variant import REMEDY, Variant, check_mask, decision_files
from ..common.wording import counted
from ..config import Config
from ..consent.allowed import VETO, Dropped
from ..consent.newcomers import Newcomers, read_newcomers
from ..dataset import Dataset, HeldOut, load_dataset, split
from ..device_adapter import set_device
from ..game.decisions import MODEL_SHA256, Decisions, barred_by, dataset_of, read_record
from ..game.rule import Rule
from ..history import History
from ..influence.expected import expected_by, shrunk, target_items
from ..influence.rows import CLOSE, STEPS, Rows
from ..influence_function import OWN_DATA, influences
from ..network import build
from ..options import options_of
from ..sources.catalogue import load_catalogue
from ..sources.interactions import Ids
from ..training.checkpoint import DIGEST as PARAMETERS
from ..training.checkpoint import load_anchors, load_checkpoint
from .explain import Explanations, of_user
from .recommend import as_records, top_items

logger = logging.getLogger("ifrqe")

_LEAST = 4  # interactions of a newcomer that must count: two that change places and two before them


@off_the_record()
def newcomers(variant: Variant) -> None:
    """Shows what the users of the file `newcomers` should disclose, why, and what the model of a Variant recommends to them.

    Raises:
        InputError: the file is missing or unfit, or there is no model, or no price to decide at.
    """
    # the file may state unwillingness otherwise than the run that made the masked dataset
    config = variant.config
    sources = {key: source for key, source in config.sources.items() if key not in options_of("unwillingness")}
    variant = Variant(Config(config.as_dict(), sources), variant.masked)
    record = _record(config)
    if variant.masked:
        check_mask(config)
    dataset = load_dataset(variant.settings(), masked=True) if variant.masked else dataset_of(variant)
    people = read_newcomers(dataset, config, _LEAST, config.veto or record.get("veto", record["vetoed"] > 0))
    device = set_device(config)
    net, info = load_checkpoint(variant.checkpoint, dataset, variant)
    _check_fit(variant, info, record)
    best, anchors = net.values(), load_anchors(variant.checkpoint, dataset, variant)[0]
    config = config.replace(solver=record["solver"], damping=record["damping"], num_neg=info["settings"]["num_neg"])
    catalogue = load_catalogue(dataset, config)
    logger.info("newcomers to %s (%s): %s interactions of %s users, rows refitted at %s of %s", config.dataset, device,
                f"{len(people.user):,}", f"{len(people.ids):,}", counted(len(anchors), "epoch"), variant.model)
    rows = Rows(net, dataset, config)
    decisions = decide(people, rows, list(anchors.values()), record)
    lists = _recommended(people, decisions, rows.at(best))
    history = dataset_of_newcomers(people, dataset)
    answers = [{**of_user(k, history, decisions, catalogue),
                "recommended": {name: as_records(found[k], history, catalogue) for name, found in lists.items()}}
               for k in range(len(people.ids))]
    Advice(model=variant.model, dataset=config.dataset, users=answers).show(config.format)


class Advice(Explanations):
    """Explanations of what newcomers should disclose, with recommendations from all that they know, and from that alone."""
    headings = {"known": "from all that they know themselves", "disclosed": "from what they disclose"}


def _record(config):
    """preprocess.json, of a game whose price and regression newcomers can be decided by."""
    path = decision_files(config)[1]
    record = read_record(config)
    if record is None:
        raise InputError(f"{path}: no decisions on {config.dataset}; run preprocess.py without --newcomers first, or set "
                         "--decisions_path to its results")
    if record["willingness_weight"] is None or "expectation" not in record:
        raise InputError(f"{path}: strategy {record['strategy']} has left no price and no expectation to decide newcomers "
                         "by; run preprocess.py with --strategy ifrqe")
    if not {"damping", "vetoed", "model_settings", MODEL_SHA256} <= set(record) or not all(
            "scale" in fitted for fitted in record["expectation"].values()):
        raise InputError(f"{path}: was written by an earlier version; {REMEDY}")
    if record["solver"] not in OWN_DATA:
        raise InputError(f"{path}: was decided with --solver {record['solver']}, which goes by more than a user's own data; "
                         f"for newcomers run preprocess.py with --solver {' or '.join(OWN_DATA)}")
    for key in ("solver", "damping"):
        if key in config.given and getattr(config, key) != record[key]:
            raise InputError(f"--{key} {getattr(config, key)}: but {path} was decided with {record[key]}; leave it out")
    return record


def _check_fit(variant, info, record):
    """Raises InputError unless the model of a Variant, which `info` is about, is that of the decisions, or trained as it."""
    path, was = decision_files(variant.config)[1], record["model_settings"] or {}
    if not variant.masked and record[MODEL_SHA256] is not None:
        said = "" if record[MODEL_SHA256] == info.get(PARAMETERS) else "it was trained anew since"
    else:
        said = ", ".join(f"{key}={value} against {was.get(key)}" for key, value in info["settings"].items()
                         if key != "ranks" and value != was.get(key))
    if said:
        raise InputError(f"{path}: was decided with another model than {variant.checkpoint} ({said}), so its price and "
                         f"regression do not fit; {REMEDY}")


def dataset_of_newcomers(people: Newcomers, known: Dataset, times: int = 1) -> Dataset:
    """A Dataset of newcomers, each so many times, that holds nothing out; what they veto takes no part in it.

    Its name and items are those of the Dataset that the model was trained on.
    """
    number = len(people.ids)
    user = (people.user + number * np.arange(times, dtype=np.int32)[:, None]).ravel()
    item, vetoed = np.tile(people.item, times), np.tile(people.vetoed, times)
    gone, none = np.flatnonzero(vetoed), np.zeros(vetoed.sum(), np.int32)
    dropped = Dropped(user[gone], item[gone], gone % len(people.user), none + VETO, np.cumsum(~vetoed)[gone], none)
    return Dataset(known.name, Ids(np.tile(people.ids, times), known.item_ids), user[~vetoed], item[~vetoed], None, None,
                   HeldOut(None, np.full(times * number, -1, np.int32)), dropped=dropped if len(gone) else None)


def decide(people: Newcomers, rows: Rows, anchors: list[dict], record: dict) -> Decisions:
    """What each of some newcomers discloses.

    Their latest item takes the place of the validation item, so that the regression of `record` tells what the others are
    worth. That latest item itself changes places with the one before it: it is then the last of a history, and what it does
    for the loss of the item before, which the row was not refitted to, tells what it is worth.

    Args:
        people: Newcomers.
        rows: Rows, of the Dataset that the model was trained on: its users with any interactions there make up the prior.
        anchors: list of sets of parameters, see Network.values.
        record: preprocess.json, whose price, regression and critical payoff count.

    Returns:
        Decisions about what is not vetoed, in the order of people.user.
    """
    place = np.flatnonzero(~people.vetoed)
    user, item, n = people.user[place], people.item[place], len(place)
    back = History(user, len(people.ids)).from_end  # 0 for the latest of a user
    swapped = np.where(back < 2, 1 - back, back)
    both = split(rows.dataset.name, Ids(np.tile(people.ids, 2), rows.dataset.item_ids), (
        np.r_[user, user + len(people.ids)], np.r_[item, item], -np.r_[back, swapped]), 1)
    both.held = HeldOut(both.test, None)  # nothing is held out as a test item
    targets = target_items(both, max(0, len(record["expectation"]) - 1))
    parameters, start = [], None
    for values in anchors:
        parameters.append(rows.at(values).refitted(both, start, STEPS if start is None else CLOSE))
        start = rows.net.user_rows(parameters[-1])
    found = influences(parameters, both, rows.config, targets)[0]
    asked = (both.rows < n) | (back[both.rows % n] == 0)  # of the two that changed places the latest alone
    to = both.rows[asked] % n
    influence, expected = np.empty((2, n))
    influence[to] = found[asked, 0]
    by_history = expected_by(record["expectation"], found, both)[asked]
    expected[to] = shrunk(by_history, record.get("shrinkage", 0.0), record.get("expected_mean", 0.0))
    b = people.unwillingness[place]
    decisions = Decisions(np.zeros(n, bool), b, record["willingness_weight"], influence, expected, record)
    decisions.disclosed = Rule(decisions).disclosed(expected, b)
    decisions.barred = barred_by(dataset_of_newcomers(people, rows.dataset).dropped, {})
    return decisions


def _recommended(people, decisions, rows):
    """For each newcomer what top_items finds, from all that is not vetoed and from what is disclosed: dict of two lists."""
    number, config = len(people.ids), rows.config
    everything = dataset_of_newcomers(people, rows.dataset, 2)
    net = build(everything, config)
    kept = np.r_[np.ones(len(decisions.disclosed), bool), decisions.disclosed]
    net.set_values(rows.refitted(everything.part(kept)))
    found = top_items(net, np.arange(2 * number), everything, config.top_k, config.eval_batch_size)
    return dict(zip(Advice.headings, (found[:number], found[number:])))
