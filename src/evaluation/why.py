"""Why an item is recommended to a user: the fewest of their own interactions without which it is not.

Each answer is a refit of the user's row, see influence/without.py: nothing is trained, and nothing written. Only what the
model was trained on counts, of the masked model what is disclosed.
"""
from __future__ import annotations

import logging

import numpy as np
import pandas as pd

from ..common.columns import clean_text
from ..common.errors import InputError
from ..common.terminal import RESULT, paint
from ..common.variant import Variant, decision_files
from ..common.wording import counted
from ..constants import GENRES, ITEM, USER
from ..dataset import Dataset
from ..device_adapter import set_device
from ..game.decisions import dataset_of, read_decisions
from ..influence.without import MOST, Counterfactual, Without, fewest
from ..sources.catalogue import find_users, load_catalogue, original_id
from ..stat_utils import sigmoid
from ..training.checkpoint import load_checkpoint
from .recommend import as_records, described, have_had, line_of, show_json

logger = logging.getLogger("ifrqe")

EXHAUSTIVE = 500  # sets of one size that are all refitted


def why(variant: Variant) -> None:
    """Shows why the model of a Variant recommends the item of `why` to its user.

    Raises:
        InputError: there is no such user or item, the item is not among the `top_k` that are recommended to them, or the
            dataset, the decisions or the checkpoint are missing or unfit.
    """
    config = variant.config
    if config.personal != "False":
        raise InputError(f"--personal {config.personal}: --why tells what trained rows recommend, and why; leave it out")
    dataset = dataset_of(variant)
    user, item = _asked(dataset, config)
    trained_on = _trained_on(dataset, variant)
    set_device(config)
    net, info = load_checkpoint(variant.checkpoint, dataset, variant)
    without = Without(net, trained_on, config.replace(num_neg=info.get("settings", {}).get("num_neg", config.num_neg)))
    found = explained(without, user, item, ~have_had(np.array([user]), dataset)[0], config.top_k)
    place = found.places[0]
    if place >= config.top_k:
        raise InputError(f"{_option(config)}: {variant.model} has this item at place {place + 1}, so that it is not "
                         f"recommended; name one of the {config.top_k} that --recommend {config.why[0]} lists"
                         f"{' with --masked' if variant.masked else ''}, or raise --top_k")
    answer = {"model": variant.model, "dataset": config.dataset, USER: original_id(dataset.user_ids, user),
              "top_k": config.top_k, **as_answer(found, trained_on, load_catalogue(dataset, config))}
    if config.format == "json":
        show_json(answer)
    else:
        show(answer, "disclosed interaction" if variant.masked else "interaction")


def _option(config):
    return f"--why {' '.join(config.why)}"


def _asked(dataset, config):
    """Positions of the user and of the item that are asked about."""
    users = find_users(dataset, config.why[0], "why")
    if len(users) > 1:
        raise InputError(f"{_option(config)}: names {len(users)} users; name one, and an item")
    place = {str(name): k for k, name in enumerate(dataset.item_ids)}
    item = place.get(clean_text(config.why[1]))
    if item is None:
        raise InputError(f"{_option(config)}: no item {config.why[1]!r} in {dataset.name}; its {dataset.num_items:,} items "
                         f"have ids such as {', '.join(map(str, dataset.item_ids[:3]))}")
    if have_had(users, dataset)[0, item]:
        raise InputError(f"{_option(config)}: they have had this item, so that it is not recommended; name one that "
                         f"--recommend {config.why[0]} lists")
    return users[0], item


def _trained_on(dataset, variant):
    """The Dataset of what the model of a Variant was trained on."""
    if not variant.masked:
        return dataset
    config = variant.settings()
    decisions = read_decisions(config, dataset, masked=True)
    if decisions is None:
        raise InputError(f"{decision_files(config)[0]}: no decisions on {config.dataset}, so that nobody knows what is "
                         "disclosed; run preprocess.py first, or set --decisions_path to its results")
    return dataset.part(decisions.disclosed)


class Explained:
    """Why an item is recommended to a user.

    Args:
        history: (n,) positions of their interactions, see Dataset.user.
        logits: (1 + n, num_items), as the model is, and without each of the interactions.
        item: the item.
        unseen: (num_items,) bool, what may be recommended.
        k: length of the list.
        least: Counterfactual, or None if no set of up to MOST interactions is one.

    effects: (n,) log-odds that each interaction adds to the item.
    scores, places: (1 + n,), see `standing`, by row of `logits`.
    """

    def __init__(self, history: np.ndarray, logits: np.ndarray, item: int, unseen: np.ndarray, k: int,
                 least: Counterfactual | None):
        self.history, self.logits, self.item, self.unseen, self.k, self.least = history, logits, item, unseen, k, least
        self.effects = (logits[0] - logits[1:])[:, item].astype(np.float64)
        self.scores, self.places = self.standing(logits)

    def standing(self, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(v,) probabilities of the item, and its places from 0 among what is unseen, by (v, num_items) logits."""
        ahead = (logits > logits[:, [self.item]]) & self.unseen
        return sigmoid(logits[:, self.item].astype(np.float64)), ahead.sum(1)

    def listed(self, logits: np.ndarray) -> np.ndarray:
        """The k items that (num_items,) logits recommend, best first."""
        order = np.argsort(-np.where(self.unseen, logits, -np.inf), kind="stable")[:self.k]
        return order[self.unseen[order]]


def explained(without: Without, user: int, item: int, unseen: np.ndarray, k: int) -> Explained:
    """Refits a user's row without each interaction, and finds the fewest without which an item leaves their list."""
    history = without.history(user)
    withheld = [history[:0], *history[:, None]]
    logits = without.logits(np.full(len(withheld), user), withheld)
    least, = fewest(without, np.array([user]), np.array([item]), unseen[None], k, EXHAUSTIVE)
    return Explained(history, logits, item, unseen, k, least)


def as_answer(found: Explained, dataset: Dataset, catalogue: pd.DataFrame) -> dict:
    """An explanation as a dict that JSON can hold; of the interactions those that lift the item most come first."""
    def named(item):
        record, = as_records(([item], [0.0]), dataset, catalogue)
        return {key: record[key] for key in (ITEM, "title", GENRES)}

    def standing(score, place):
        return {"rank": int(place) + 1, "score": round(float(score), 6)}
    interactions = [{**named(dataset.item[found.history[k]]), "effect": round(float(found.effects[k]), 6),
                     "without": standing(found.scores[k + 1], found.places[k + 1])}
                    for k in np.argsort(-found.effects, kind="stable")]
    answer = {"item": {**named(found.item), **standing(found.scores[0], found.places[0])}, "most": MOST, "fewest": None,
              "interactions": interactions}
    if (least := found.least) is not None:
        (score,), (place,) = found.standing(least.logits[None])
        before, after = found.listed(found.logits[0]), found.listed(least.logits)
        records = as_records((after, sigmoid(least.logits[after].astype(np.float64))), dataset, catalogue)
        answer["fewest"] = {"withheld": [named(dataset.item[k]) for k in least.withheld], "without": standing(score, place),
                            "margin": round(least.margin, 6), "clear": least.clear,
                            "instead": [row for row, item in zip(records, after) if item not in before]}
    return answer


def show(answer: dict, noun: str = "interaction") -> None:
    """Shows what as_answer says; `noun` is what the user's interactions are called."""
    item, least, rows = answer["item"], answer["fewest"], answer["interactions"]
    theirs = f"their {counted(len(rows), noun)}"
    logger.log(RESULT, "%s", paint(f"{answer['dataset']}, user {answer[USER]}: why {answer['model']} recommends", "bold"))
    logger.log(RESULT, "%s", line_of(item))
    if least is None:
        logger.log(RESULT, "\nno %d of %s take it out of the %d best", answer["most"], theirs, answer["top_k"])
    else:
        number = len(least["withheld"])
        which = "this one" if number == 1 else f"these {number}"
        logger.log(RESULT, "%s", paint(f"\nwithout {which} of {theirs} it is at place {least['without']['rank']}, score "
                                       f"{least['without']['score']:.4f}", "bold"))
        for row in least["withheld"]:
            logger.log(RESULT, "     %s", described(row))
        logger.log(RESULT, "among the %d best instead:", answer["top_k"])
        for row in least["instead"]:
            logger.log(RESULT, "%s", line_of(row))
        if not least["clear"]:
            logger.log(RESULT, "%s", paint("a close call: trained anew without, the model may well keep it", "yellow"))
    logger.log(RESULT, "%s", paint("\nwhat each adds to it, in log-odds, and its place and score without it", "bold"))
    for row in rows:
        logger.log(RESULT, "%+9.4f %5d  %.4f  %s", row["effect"], row["without"]["rank"], row["without"]["score"],
                   described(row))
