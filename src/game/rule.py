"""The rule of the game at a price, and why it disclosed or withheld an interaction. See docs/maths.md, section 5."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ..common.stored import stored
from ..common.variant import dataset_folder
from ..config import Config
from ..constants import UNWILLINGNESS_FILE
from .decisions import ALONE, UPDATES, VETOED, Decisions, barred_by
from .mirror_descent import critical_payoff, prices_within_budgets
from .problem import Problem
from .strategies import STRATEGIES, known

UNKNOWN = "by their unwillingness alone, since too few interactions of theirs are known to tell what one is worth"


class Rule:
    """The rule of the game: an interaction is disclosed if  expected - lambda b > critical.

    At one anchor this is exactly what the game plays. At several, `expected` is the mean over the rounds at the price of
    the run, and the rule is close to the game; of `ask-first` it is the rule of the last instalment.

    played: whether a price has decided, so that there is a rule.
    sentences: why it was disclosed, and why it was withheld, where none has; otherwise: where it is not what the rule says.
    """

    def __init__(self, decisions: Decisions):
        record, strategy = decisions.record, known(decisions)
        self.played = decisions.expected is not None and decisions.weight is not None
        self.weight = decisions.weight
        self.critical = critical_payoff(record["prior"], record["rounds"], record["game_rate"]) if self.played else None
        self.sentences = f"disclosed: {strategy.disclosed}", f"withheld: {strategy.withheld}"
        self.otherwise = strategy.otherwise
        if UPDATES in record:
            self.otherwise += ", or in an update by unwillingness or at a higher price"

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

    def reasons(self, expected: np.ndarray | None, unwillingness: np.ndarray, disclosed: np.ndarray,
                alone: bool = False) -> list[str]:
        """A sentence for each interaction; arrays (n,) in. A page in a browser says the same (report.js).

        `alone`: whether they are of a user of whom nothing is known.
        """
        if alone:
            return [f"{'disclosed' if chosen else 'withheld'}: {UNKNOWN}" for chosen in disclosed]
        if not self.played:
            return [self.sentences[0 if chosen else 1] for chosen in disclosed]
        says = self.disclosed(expected, unwillingness)
        return [reason(*row, self.otherwise) for row in zip(expected, self.weight * unwillingness, disclosed, says)]


def reason(expected: float, price: float, disclosed: bool, says: bool, otherwise: str) -> str:
    """Why an interaction was disclosed or withheld; `otherwise` where the decision was another than the rule `says`."""
    if disclosed != says:
        return f"{'disclosed' if disclosed else 'withheld'}: {otherwise}"
    if disclosed and price > 0 and expected >= price:
        return f"disclosed: worth {times(expected / price)} its price"
    if disclosed and expected > price:
        return "disclosed: helps their recommendations and costs them nothing"
    if not disclosed and expected <= 0:
        return "withheld: hurts their recommendations"
    if not disclosed and expected < price:
        return f"withheld: they asked, and it is worth only {times(expected / price)} its price"
    return f"{'disclosed' if disclosed else 'withheld'}: makes too little difference to move the game from its start"


def times(x: float) -> str:
    """A multiple for reading: "0.31x", "4.0x", "12x"."""
    if x >= 1000 or x < 0.01:
        return "over 1000x" if x > 1 else "less than 0.01x"
    if x >= 10:
        return f"{x:.0f}x"
    return f"{x:.1f}x" if x >= 2 else f"{x:.2f}x"


def with_reasons(decisions: Decisions, problem: Problem, config: Config) -> None:
    """Adds to Decisions about a Problem by what each interaction was decided, and why what is dropped takes no part."""
    dropped, file = problem.dataset.dropped, Path(config.willingness_file).name
    budget = "all allowed" if known(decisions).whole else f"budget {config.wv_budget:g}"
    weights = decisions.record.get("instalment_weights", [])
    bases = [budget if weight is None else f"price {weight:.6g}" for weight in (*weights, decisions.weight)]
    base = np.where(decisions.instalment > 0, decisions.instalment - 1, len(weights)) if weights else 0  # at the last
    if decisions.record["strategy"] in STRATEGIES and known(decisions).sees_validation:
        bases.append(ALONE)
        base = np.where(problem.dataset.informed, base, len(bases) - 1)
    found = base + len(bases) * np.maximum(problem.line, 0)
    occurs = np.bincount(found) > 0
    reasons = [bases[k % len(bases)] + (f", {file}:{k // len(bases)}" if k >= len(bases) else "")
               for k in np.flatnonzero(occurs).tolist()]
    decisions.reason = pd.Categorical(reasons)[(np.cumsum(occurs) - 1)[found]]
    if dropped is not None:
        beside = stored(dataset_folder(config) / UNWILLINGNESS_FILE).name
        decisions.barred = barred_by(dropped, {
            row: f"{VETOED} {file if line > 0 else beside}:{abs(line)}"
            for row, line in zip(dropped.rows.tolist(), dropped.line.tolist()) if line})
