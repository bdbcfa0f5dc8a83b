"""Why an item is recommended to a user: the fewest of their own interactions without which it is not.

Each answer is a refit of the user's row, see influence/without.py: nothing is trained, and nothing written. Only what the
model was trained on counts, of the masked model what is disclosed.
"""
from collections.abc import Iterator

import numpy as np
import pandas as pd

from ..common.columns import clean_text, positions
from ..common.errors import InputError
from ..common.terminal import counted, paint
from ..common.variant import Variant
from ..constants import USER
from ..device_adapter import set_device
from ..game.decisions import dataset_of, trained_on
from ..influence.rows import Rows
from ..influence.without import MOST, fewest
from ..sources.catalogue import find_users, load_catalogue, original_id
from ..stat_utils import sigmoid
from .personal import load_serving
from .recommend import Answer, as_records, best_items, described, have_had, line_of, named

EXHAUSTIVE = 500  # sets of one size that are all refitted


def why(variant: Variant) -> None:
    """Shows why the model of a Variant recommends the item of `why` to its user.

    Raises InputError: there is no such user or item, the item is not among the `top_k` that are recommended to them, or the
        dataset, the decisions or the checkpoint are missing or unfit.
    """
    config = variant.config
    if config.personal != "False":
        raise InputError(f"--personal {config.personal}: --why tells what trained rows recommend, and why; leave it out")

    def refuse(why):
        raise InputError(f"--why {' '.join(config.why)}: {why}")
    dataset, listed = dataset_of(variant), f"name one that --recommend {config.why[0]} lists"
    users, item = find_users(dataset, config.why[0], "why"), positions(dataset.item_ids, [clean_text(config.why[1])])[0]
    if len(users) > 1:
        refuse(f"names {len(users)} users; name one, and an item")
    if item < 0:
        refuse(f"no item {config.why[1]!r} in {dataset.name}; {listed}")
    unseen = ~have_had(users, dataset)[0]
    if not unseen[item]:
        refuse(f"they have had this item, so that it is not recommended; {listed}")
    known = trained_on(dataset, variant)
    set_device(config)
    rows = load_serving(dataset, variant).refits(known, config)
    found = explained(rows, users[0], item, unseen, config.top_k, load_catalogue(dataset, config))
    if (place := found["item"]["rank"]) > config.top_k:
        refuse(f"{variant.model} has this item at place {place}, so that it is not recommended; {listed}"
               f"{' with --masked' if variant.masked else ''}, or raise --top_k above {config.top_k}")
    answer = Reasons({"model": variant.model, "dataset": config.dataset, USER: original_id(dataset.user_ids, users[0]),
                      "top_k": config.top_k, **found})
    answer.noun = "disclosed interaction" if variant.masked else "interaction"
    answer.show(config.format)


def explained(rows: Rows, user: int, item: int, unseen: np.ndarray, k: int, catalogue: pd.DataFrame) -> dict:
    """Refits a user's row without each interaction, and finds the fewest without which an item leaves their list.

    `rows` are of the dataset that the model was trained on; `unseen`: (num_items,) bool, what may be recommended; `k`: how
    long the list is.
    Returns: A dict that JSON can hold: `item`; `interactions`, those that lift the item most first, with their effects, the
        log-odds that they add, and the item's rank from 1 and score without them; `fewest`, None if no set of up to `most`
        interactions takes it out of the list.
    """
    dataset, history = rows.dataset, rows.dataset.history.of_users([user])
    withheld = [history[:0], *history[:, None]]
    logits = rows.without(np.full(len(withheld), user), withheld)  # as the model is, then without each interaction
    effects = (logits[0] - logits[1:])[:, item].astype(np.float64)
    least, = fewest(rows, np.array([user]), np.array([item]), unseen[None], k, EXHAUSTIVE)

    def standing(row):
        ahead = (row > row[item]) & unseen
        return {"rank": int(ahead.sum()) + 1, "score": round(float(sigmoid(row[item].astype(np.float64))), 6)}

    interactions = [{**named(dataset.item[history[n]], dataset, catalogue), "effect": round(float(effects[n]), 6),
                     "without": standing(logits[n + 1])} for n in np.argsort(-effects, kind="stable")]
    answer = {"item": {**named(item, dataset, catalogue), **standing(logits[0])}, "most": MOST, "fewest": None,
              "interactions": interactions}
    if least is not None:
        before, after = best_items(np.stack([logits[0], least.logits]), np.stack([~unseen, ~unseen]), k)
        records = as_records((after, sigmoid(least.logits[after].astype(np.float64))), dataset, catalogue)
        answer["fewest"] = {"withheld": [named(dataset.item[n], dataset, catalogue) for n in least.withheld],
                            "without": standing(least.logits), "margin": round(least.margin, 6), "clear": least.clear,
                            "instead": [row for row, item in zip(records, after) if item not in before]}
    return answer


class Reasons(Answer):
    """What explained says about an item that a model recommends to a user; `noun` is what their interactions are called."""

    def lines(self) -> Iterator[str]:
        item, least, rows = self["item"], self["fewest"], self["interactions"]
        theirs = f"their {counted(len(rows), self.noun)}"
        yield paint(f"{self['dataset']}, user {self[USER]}: why {self['model']} recommends", "bold")
        yield line_of(item)
        if least is None:
            yield f"\nno {self['most']} of {theirs} take it out of the {self['top_k']} best"
        else:
            number = len(least["withheld"])
            which = "this one" if number == 1 else f"these {number}"
            yield paint(f"\nwithout {which} of {theirs} it is at place {least['without']['rank']}, score "
                        f"{least['without']['score']:.4f}", "bold")
            for row in least["withheld"]:
                yield f"     {described(row)}"
            yield f"among the {self['top_k']} best instead:"
            yield from map(line_of, least["instead"])
            if not least["clear"]:
                yield paint("a close call: trained anew without, the model may well keep it", "yellow")
        yield paint("\nwhat each adds to it, in log-odds, and its place and score without it", "bold")
        for row in rows:
            yield f"{row['effect']:+9.4f} {row['without']['rank']:5d}  {row['without']['score']:.4f}  {described(row)}"
