"""Decisions on what arrives after a mask was made, as each user's own device takes them: at the price of the run.

A device knows its user's history, what they have disclosed, the model's parameters and the price. Who was in no training
discloses first what they mind least, and has a row refitted to that. Then what is worth more than the price is disclosed,
while the budget lasts. See docs/method.md, "For use".
"""
from dataclasses import dataclass

import numpy as np

from ..common.columns import positions
from ..common.errors import InputError
from ..common.variant import REMEDY, Variant, decision_files
from ..config import Config
from ..dataset import Dataset
from ..influence.expected import expected_by, on_validation, shrunk, target_items
from ..influence.rows import Rows
from ..influence_function import OWN_DATA, influences_of_pairs
from ..network import build
from ..stat_utils import own_numbers
from ..training.checkpoint import ANCHOR, DIGEST, load_sets, trained_part
from .decisions import ALONE, MODEL_SHA256, THRESHOLD, Decisions, read_record
from .mirror_descent import critical_payoff, prices_of
from .problem import first_within
from .strategies import STRATEGIES


def usable(config: Config) -> tuple[Config, dict]:
    """Settings and preprocess.json of a run by whose price and model devices can decide more; else an InputError."""
    path, record = decision_files(config)[1], read_record(config, needed=True)
    price = record["willingness_weight"]
    if THRESHOLD not in record or price is not None and "expectation" not in record:
        raise InputError(f"{path}: strategy {record['strategy']} has left nothing to decide more by, or an earlier version "
                         f"decided; {REMEDY} and --strategy ask-first or ifrqe")
    if price is not None and record["solver"] not in OWN_DATA:
        raise InputError(f"{path}: was decided with --solver {record['solver']}, which goes by more than a user's own data; "
                         f"run preprocess.py with --solver {' or '.join(OWN_DATA)}")
    played = {key: record[key] for key in ("solver", "damping") if key in record}
    for key, value in played.items():
        if key in config.given and getattr(config, key) != value:
            raise InputError(f"--{key} {getattr(config, key)}: but {path} was decided with {value}; leave it out")
    return config.replace(**played), record


@dataclass
class Arriving:
    """Users of whom something is new.

    dataset: Dataset of all that they allow, nothing held out.
    new, disclosed: (n,) bool, what is to be decided, and what they had disclosed before.
    unwillingness: (n,) float64 in [0, 1].
    place: (num_users,) int, their positions among the users of the model; -1 of who was in no training.
    """
    dataset: Dataset
    new: np.ndarray
    disclosed: np.ndarray
    unwillingness: np.ndarray
    place: np.ndarray


class Known:
    """A model of a run: its sets of parameters and info, see load_sets, and the Rows of what it was trained on."""

    def __init__(self, variant: Variant, dataset: Dataset):
        self.variant, (net, self.sets, self.info) = variant, load_sets(variant.checkpoint, dataset, variant)
        trained = dataset.part(trained_part(self.info, dataset.rows))
        self.rows = Rows(net, trained, variant.config.replace(num_neg=self.info["settings"]["num_neg"]))

    def place(self, users: np.ndarray) -> np.ndarray:
        """(k,) int, the positions of original ids among its users; -1 of who was not trained on."""
        place = positions(self.rows.dataset.user_ids, list(map(str, users)))
        place[self.rows.length[place] == 0] = -1
        return place

    def check_fit(self, record: dict) -> None:
        """Raises InputError unless it is the model of the decisions of a record, or was trained as that one."""
        variant, was, info = self.variant, record["model_settings"] or {}, self.info
        if not variant.masked and record[MODEL_SHA256] is not None:
            said = "" if record[MODEL_SHA256] == info.get(DIGEST) else "it was trained anew since"
        else:  # of epochs a study or a warm start has found the number
            other = {"ranks"} if variant.config.holdout else {"ranks", "train_epochs"}
            said = ", ".join(f"{key}={value} against {was.get(key)}" for key, value in info["settings"].items()
                             if key not in other and value != was.get(key))
        if said and record["willingness_weight"] is not None:
            raise InputError(f"{decision_files(variant.config)[1]}: was decided with another model than "
                             f"{variant.checkpoint} ({said}), so its price and regression do not fit; {REMEDY}")


def with_rows(rows: Rows, values: dict, place: np.ndarray, known: Dataset) -> dict:
    """Parameters of other users: trained rows of who was in the training, of others refitted ones.

    rows, values: Rows of the Dataset that the model was trained on, and parameters, see Network.values.
    place: (num_users,), see Arriving.
    known: Dataset of these users, with what their rows are refitted to.
    """
    fresh = place < 0
    found = rows.at(values).refitted(known.part(fresh[known.user]))
    return {**values, **{name: np.where(fresh[:, None], found[name], values[name][place]) for name in rows.net.of_users()}}


def left_of(record: dict, total: float, spent: float) -> float:
    """How much more unwillingness may be violated, of which all sums to `total` and what is disclosed to `spent`."""
    free = record["wv_budget"] is None or STRATEGIES[record["strategy"]].whole
    return np.inf if free else max(record["wv_budget"] * total - spent, 0.0)


def decide(arriving: Arriving, rows: Rows, sets: list[dict], record: dict, left: float = np.inf) -> Decisions:
    """What is disclosed of what is new.

    rows, sets: Rows of the Dataset that the model was trained on, and sets of parameters for influences, see Network.values.
    record, left: see usable and left_of; beyond the latter the price rises.
    Returns: Decisions on all of `arriving.dataset`, with what was disclosed before; `weight` is the price that it came to.
    """
    dataset, new, b = arriving.dataset, arriving.new, arriving.unwillingness
    price, informed = record["willingness_weight"], dataset.informed
    unknown = (arriving.place < 0)[dataset.user] | ~informed | (price is None)
    unknown |= STRATEGIES[record["strategy"]].asks  # whoever was there has taken part in the first instalment
    first = new & unknown & (b <= record[THRESHOLD])
    decisions, level = Decisions(arriving.disclosed | first, b, price, record=record), np.where(first, 0.0, -np.inf)
    if price is not None:
        decisions.influence, decisions.expected = _expected(arriving, decisions.disclosed, rows, sets, record)
        critical = critical_payoff(record["prior"], record["rounds"], record["game_rate"])
        prices = prices_of(decisions.expected, b, critical)
        level = np.where(new & ~first & (prices > price), prices, level)
    ties = own_numbers(rows.config.seed, "ties", dataset.user, dataset.item).astype(np.float64)
    asked = level > -np.inf
    chosen = first_within(left, (np.where(asked, ~first, np.inf), -level, b, ties), b)
    if (refused := asked & ~chosen & ~first).any():
        decisions.weight = float(level[refused].max())
    decisions.reason = np.select(
        [first & ~chosen, ~informed & (price is not None), first | (price is None)],
        [f"budget {record['wv_budget']}", ALONE, f"unwillingness up to {record[THRESHOLD]:.6g}"],
        f"price {decisions.weight or 0:.6g}").astype(object)
    decisions.disclosed = arriving.disclosed | chosen
    return decisions


def _expected(arriving, disclosed, rows, sets, record):
    """(n,) influences and what is expected of the next item, of what is new; 0 of the rest."""
    dataset, new, fitted = arriving.dataset, arriving.new, record["expectation"]
    known = dataset.part(disclosed & ~dataset.yardstick)
    asks = STRATEGIES[record["strategy"]].asks
    targets, net = target_items(dataset, max(1, len(fitted) - asks)), build(dataset, rows.config)
    found = np.zeros((dataset.num_interactions, targets.shape[1]))
    found[new] = influences_of_pairs([with_rows(rows, values, arriving.place, known) for values in sets], known,
                                     (dataset.user[new], dataset.item[new]), targets, rows.config, net)
    mean = record.get("expected_mean", 0.0)
    expected = shrunk(expected_by(fitted, found, dataset), record.get("shrinkage", 0.0), mean)
    return on_validation(found, dataset), np.where(dataset.informed, expected, max(mean, 0.0))


def sets_to_decide_by(sets: dict, info: dict, record: dict) -> list[dict]:
    """Of the sets of a checkpoint those of its anchor epochs; of a strategy that asks the later half, as it announces."""
    epochs = info["anchor_epochs"]
    later = len(epochs) // 2 if STRATEGIES[record["strategy"]].asks else 0
    return [sets[ANCHOR.format(epoch)] for epoch in epochs[later:]]
