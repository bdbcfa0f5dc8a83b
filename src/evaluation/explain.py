"""What was decided on each interaction of a user, and why. See docs/maths.md, section 5."""
from collections.abc import Iterator

import numpy as np
import pandas as pd

from ..common.errors import InputError
from ..common.plugins import label
from ..common.terminal import Painted, logger, paint
from ..common.variant import Variant
from ..consent.allowed import NONE_DROPPED, TOO_FEW, VETO, WAITS
from ..constants import DISCLOSED, EXPECTED, INFLUENCE, INSTALMENT, ITEM, REASON, UNWILLINGNESS, USER
from ..dataset import Dataset
from ..device_adapter import set_device
from ..game.decisions import Decisions, decided
from ..game.rule import Rule
from ..sources.catalogue import find_users, load_catalogue, original_id
from ..training.checkpoint import load_checkpoint
from .recommend import Answer, as_records, described, line_of, named, top_items

BY = "by"  # key of an interaction: the reason that disclosure.csv has
LISTS = {"plain": "before: trained on everything", "masked": "after: trained on what is disclosed"}  # of recommendations
VETOED = "withheld: they forbade it"
WITHDRAWN = "withheld: they took it back"
TOO_LITTLE = "withheld: too few of their interactions may be used"


def explain(variant: Variant) -> None:
    """Shows the interactions of the user `explain_user`, what was decided on them and why, and what both models recommend.

    A model that is missing, or was trained on another mask, recommends nothing.
    Raises InputError: there is no such user, or nothing is decided yet.
    """
    config = variant.config
    dataset, decisions = decided(config, variant.masked)
    users = find_users(dataset, config.explain_user, "explain_user")
    set_device(config)
    catalogue = load_catalogue(dataset, config)
    answers = [{**of_user(user, dataset, decisions, catalogue), "recommended": {}} for user in users]
    for name, masked in (("plain", False), ("masked", True)):
        model = Variant(config, masked)
        try:
            net = load_checkpoint(model.checkpoint, dataset, model)[0]
        except InputError as e:  # the decisions stand without it
            logger.warning("without the recommendations of the %s model: %s", name, e)
        else:
            for answer, found in zip(answers, top_items(net, users, dataset, config.top_k, config.eval_batch_size)):
                answer["recommended"][name] = as_records(found, dataset, catalogue)
    Explanations(dataset=config.dataset, users=answers).show(config.format)


def of_user(user: int, dataset: Dataset, decisions: Decisions, catalogue: pd.DataFrame) -> dict:
    """A dict that JSON can hold: the user's interactions, those most worth their while first, with the decisions."""
    place, rule = dataset.history.of(user), Rule(decisions)
    expected, b, chosen, influence, by, instalment = (None if a is None else a[place] for a in (
        decisions.expected, decisions.unwillingness, decisions.disclosed, decisions.influence, decisions.reason,
        decisions.instalment))
    if alone := decisions.alone(place):
        expected = influence = None
    reasons = rule.reasons(expected, b, chosen, alone)
    worth = chosen - b if expected is None or not rule.played else expected - rule.weight * b
    rows = [{
        **named(dataset.item[place][k], dataset, catalogue),
        UNWILLINGNESS: float(b[k]), INFLUENCE: None if influence is None else float(influence[k]),
        EXPECTED: None if expected is None else float(expected[k]), DISCLOSED: bool(chosen[k]),
        **({} if instalment is None else {INSTALMENT: int(instalment[k])}),
        REASON: reasons[k], BY: None if by is None else by[k]} for k in np.argsort(-worth, kind="stable")]
    gone = dataset.dropped or NONE_DROPPED
    for k in np.flatnonzero((gone.user == user) & (gone.why != WAITS)):
        why = gone.why[k]
        rows.append({
            **named(gone.item[k], dataset, catalogue), UNWILLINGNESS: None if why == TOO_FEW else 1.0,
            INFLUENCE: None, EXPECTED: None, DISCLOSED: False,
            REASON: VETOED if why == VETO else WITHDRAWN if why > 0 else TOO_LITTLE, BY: decisions.barred[k]})
    total = float(b.sum())
    return {USER: original_id(dataset.user_ids, user), "strategy": decisions.record["strategy"],
            "willingness_weight": rule.weight, "interactions": rows, "disclosed": int(chosen.sum()),
            "violated_share": float(b[chosen].sum() / total) if total else 0.0}


class Explanations(Answer):
    """What of_user says of some users, by the key `users`, each with lists of recommendations by the key `recommended`."""
    headings = LISTS

    def lines(self) -> Iterator[str]:
        for user in self["users"]:
            yield from self._interactions(user)
            for model, found in user["recommended"].items():
                other = {row[ITEM] for name, rows in user["recommended"].items() if name != model for row in rows}
                yield paint(f"\nrecommended {self.headings[model]}", "bold")
                for row in found:
                    yield line_of(row) + ("" if len(user["recommended"]) == 1 or row[ITEM] in other else "  *")
            if len(user["recommended"]) > 1:
                yield "\n* only in this list"

    def _interactions(self, user):
        rows, weight = user["interactions"], user["willingness_weight"]
        yield paint(f"{self['dataset']}, user {user[USER]}: {user['disclosed']} of {len(rows)} interactions disclosed, "
                    f"{100 * user['violated_share']:.0f}% of their unwillingness", "bold")
        price = "" if weight is None else f", price of unwillingness {weight:.3g}"
        yield f"strategy {label(user['strategy'])}{price}; influences in nats, positive = disclosing helps them"
        yield f"{'unwilling':>11} {'influence':>9} {'expected':>9}  interaction"
        for row in rows:
            numbers = " ".join(f"{row[key]:+9.4f}" if row[key] is not None else f"{'-':>9}" for key in (INFLUENCE, EXPECTED))
            unwilling = "-" if row[UNWILLINGNESS] is None else f"{row[UNWILLINGNESS]:.2f}"
            yield f"{unwilling:>11} {numbers}  {described(row)}"
            yield Painted(f"{'':33}{paint(row['reason'], 'green' if row[DISCLOSED] else 'yellow')}")
