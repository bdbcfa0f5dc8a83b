"""Why each interaction of a user was disclosed or withheld, in sentences, and the rule of the game at a price.

See docs/maths.md, section 5.
"""
from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from ..common.errors import InputError
from ..common.plugins import label
from ..common.terminal import Painted, paint
from ..common.variant import Variant
from ..consent.allowed import NONE_DROPPED, TOO_FEW, VETO, WAITS
from ..constants import DISCLOSED, EXPECTED, INFLUENCE, INSTALMENT, ITEM, REASON, UNWILLINGNESS, USER
from ..dataset import Dataset
from ..device_adapter import set_device
from ..game.baselines import BASELINES
from ..game.decisions import Decisions, decided_dataset, decisions_about
from ..game.mirror_descent import critical_payoff, prices_within_budgets
from ..game.strategies import ASK_FIRST, NONE
from ..sources.catalogue import find_users, load_catalogue, original_id
from ..training.checkpoint import load_checkpoint
from .answer import Answer
from .recommend import as_records, described, line_of, named, top_items

logger = logging.getLogger("ifrqe")


class Rule:
    """The rule of the game: an interaction is disclosed if  expected - lambda b > critical.

    At one anchor this is exactly what the game plays. At several, `expected` is the mean over the rounds at the price of
    the run, and the rule is close to the game; of `ask-first` it is the rule of the last instalment. `agreement` says how
    much of what was decided follows from it.
    """

    def __init__(self, decisions: Decisions):
        record = decisions.record
        self.strategy = record["strategy"]
        self.played = decisions.expected is not None and decisions.weight is not None
        self.weight = decisions.weight
        self.critical = critical_payoff(record["prior"], record["rounds"], record["game_rate"]) if self.played else None
        self.otherwise = INSTALMENTS if self.strategy == ASK_FIRST else ANCHORS

    @property
    def sentences(self) -> tuple[str, str]:
        """Why a baseline disclosed, and why it withheld, in sentences."""
        done, left = BASELINE_REASONS.get(self.strategy, OWN_STRATEGY)
        return f"disclosed: {done}", f"withheld: {left}"

    def disclosed(self, expected: np.ndarray, unwillingness: np.ndarray) -> np.ndarray:
        """(n,) bool, what the rule discloses at the price of the run."""
        return expected - self.weight * unwillingness > self.critical

    def agreement(self, decisions: Decisions) -> float:
        """Share of the interactions that the rule decides as the run did."""
        found = self.disclosed(decisions.expected, decisions.unwillingness)
        return float((found == decisions.disclosed).mean()) if len(found) else 1.0

    def prices(self, decisions: Decisions, shares: Sequence[float]) -> list[float]:
        """Prices at which the rule just keeps within shares of the unwillingness of all."""
        b = decisions.unwillingness
        return prices_within_budgets(decisions.expected, b, np.asarray(shares) * b.sum(), self.critical)

    def reasons(self, expected: np.ndarray | None, unwillingness: np.ndarray, disclosed: np.ndarray) -> list[str]:
        """A sentence for each interaction; arrays (n,) in. A page in a browser says the same (report.js)."""
        if not self.played:
            done, left = self.sentences
            return [done if d else left for d in disclosed]
        says = self.disclosed(expected, unwillingness)
        return [_reason(*row, self.otherwise) for row in zip(expected, self.weight * unwillingness, disclosed, says)]


BY = "by"  # key of an interaction: the reason that disclosure.csv has
LISTS = {"plain": "before: trained on everything", "masked": "after: trained on what is disclosed"}  # of recommendations
VETOED = "withheld: they forbade it"
WITHDRAWN = "withheld: they took it back"
TOO_LITTLE = "withheld: too few of their interactions may be used"
ANCHORS, INSTALMENTS = "a close call between the anchors", "in an earlier instalment, by what was known then"
OWN_STRATEGY = ("the strategy chose it", "the strategy did not choose it")
BASELINE_REASONS = {NONE: ("everything is", ""),  # nothing is withheld but what is vetoed
                    **{name: (baseline.disclosed, baseline.withheld) for name, baseline in BASELINES.items()}}
BASELINE_REASONS[ASK_FIRST] = BASELINE_REASONS["threshold"]  # where all instalments went by unwillingness alone


def _reason(expected, price, disclosed, says, otherwise):
    """Why an interaction was disclosed or withheld; `otherwise` where the decision was another than the rule `says`."""
    if disclosed != says:
        return f"{'disclosed' if disclosed else 'withheld'}: {otherwise}"
    if disclosed and price > 0 and expected >= price:
        return f"disclosed: worth {times(expected / price)} its price"
    if disclosed and expected > price:
        return "disclosed: helps their recommendations and costs them nothing"
    if disclosed:
        return "disclosed: makes too little difference to move the game from its start"
    if expected <= 0:
        return "withheld: hurts their recommendations"
    if expected >= price:
        return "withheld: makes too little difference to move the game from its start"
    return f"withheld: they asked, and it is worth only {times(expected / price)} its price"


def times(x: float) -> str:
    """A multiple for reading: "0.31x", "4.0x", "12x"."""
    if x >= 1000 or x < 0.01:
        return "over 1000x" if x > 1 else "less than 0.01x"
    if x >= 10:
        return f"{x:.0f}x"
    return f"{x:.1f}x" if x >= 2 else f"{x:.2f}x"


def explain(variant: Variant) -> None:
    """Shows the interactions of the user `explain_user`, what was decided on them and why, and what both models recommend.

    A model that is missing, or was trained on another mask, recommends nothing.

    Raises:
        InputError: there is no such user, or nothing is decided yet.
    """
    config = variant.config
    dataset = decided_dataset(config)
    users = find_users(dataset, config.explain_user, "explain_user")
    decisions = decisions_about(dataset, config, variant.masked)
    set_device(config)
    catalogue = load_catalogue(dataset, config)
    models = {}
    for name, masked in (("plain", False), ("masked", True)):
        try:
            model = Variant(config, masked)
            models[name] = load_checkpoint(model.checkpoint, dataset, model)[0]
        except InputError as e:  # the decisions stand without it
            logger.warning("without the recommendations of the %s model: %s", name, e)
    lists = {name: top_items(net, users, dataset, config.top_k, config.eval_batch_size) for name, net in models.items()}
    answers = [of_user(user, dataset, decisions, catalogue) for user in users]
    for k, answer in enumerate(answers):
        answer["recommended"] = {name: as_records(found[k], dataset, catalogue) for name, found in lists.items()}
    Explanations(dataset=config.dataset, users=answers).show(config.format)


def of_user(user: int, dataset: Dataset, decisions: Decisions, catalogue: pd.DataFrame) -> dict:
    """A dict that JSON can hold: the user's interactions, those most worth their while first, with the decisions."""
    start, end = np.searchsorted(dataset.user, [user, user + 1])
    expected, b, chosen, influence, by = (None if a is None else a[start:end] for a in (
        decisions.expected, decisions.unwillingness, decisions.disclosed, decisions.influence, decisions.reason))
    rule = Rule(decisions)
    reasons = rule.reasons(expected, b, chosen)
    worth = expected - rule.weight * b if rule.played else chosen - b
    rows = [{
        **named(dataset.item[start + k], dataset, catalogue),
        UNWILLINGNESS: float(b[k]), INFLUENCE: None if influence is None else float(influence[k]),
        EXPECTED: None if expected is None else float(expected[k]), DISCLOSED: bool(chosen[k]),
        **({} if decisions.instalment is None else {INSTALMENT: int(decisions.instalment[start + k])}),
        REASON: reasons[k], BY: None if by is None else by[k]} for k in np.argsort(-worth, kind="stable")]
    gone = dataset.dropped or NONE_DROPPED
    for k in np.flatnonzero((gone.user == user) & (gone.why != WAITS)):
        why = gone.why[k]
        rows.append({
            **named(gone.item[k], dataset, catalogue),
            UNWILLINGNESS: None if why == TOO_FEW else 1.0, INFLUENCE: None, EXPECTED: None, DISCLOSED: False,
            REASON: VETOED if why == VETO else WITHDRAWN if why > 0 else TOO_LITTLE, BY: decisions.barred[k]})
    total = float(b.sum())
    return {USER: original_id(dataset.user_ids, user), "strategy": rule.strategy, "willingness_weight": rule.weight,
            "interactions": rows, "disclosed": int(chosen.sum()),
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
