"""The game: mirror descent on the distributions that users play over their selection vectors.

Within a round the payoff is additive over interactions, so that a product distribution stays one: the marginal p_k follows
logit p_k += gamma (E_k - lambda b_k), which is the update of the table of all 2^n selection vectors exactly, in O(n). An
interaction is disclosed if its marginal, averaged over the rounds, exceeds 1/2. See docs/maths.md, sections 5 and 6.
"""
from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ..common.share import here
from ..common.terminal import progress
from ..config import Config
from .problem import SLACK, prefixes

_BLOCK = 1 << 16  # interactions that go through all rounds together: they fit into the processor's cache
_NEAR = 1e-6  # distance below which an anchor is the play itself
_STEP = 0.004  # by how much, relatively, the first guess of a price is overshot to bracket it; doubled each time
_EXACT = 1e-12  # relative width of a bracket that is not halved any more
_CLOSE = 1e-6  # distance from the critical payoff, relative to what moves a logit, within which the rounds are played


def _logit(p):
    return float(np.log(p / (1 - p)))


def mirror_descent(payoff: np.ndarray, prior: float, rounds: int, rate: float, selections: np.ndarray | None = None,
                   user: np.ndarray | None = None, use: str = "nearest") -> tuple[np.ndarray, np.ndarray]:
    """Plays the game, in product form.

    payoff: (n,) I - lambda b of each interaction, what its disclosure is worth to its user; (t, n) for t anchors.
    prior, rounds, rate: probability of disclosure before the first round; L; gamma, the step size.
    selections, user: (t, n) bool, the anchors, and (n,) ascending; needed if there are several.
    use: which anchor a user's round goes by: "nearest" or "weighted".
    Returns average: (n,) float64, the marginal probability of disclosure after each round's update, averaged over the
        rounds; payoff: (n,) float64, the payoff that was used, averaged over the rounds.
    """
    payoff = np.atleast_2d(np.asarray(payoff, np.float64))
    n = payoff.shape[1]
    average, used = np.empty(n), np.empty(n)
    ends = np.arange(_BLOCK, n + _BLOCK, _BLOCK).clip(max=n)
    if user is not None:
        ends = np.unique(np.searchsorted(user, user[ends - 1], side="right"))  # none parts a user's

    def block(place):
        step = rate * payoff[:, place] / 2
        state = np.full(step.shape[1], _logit(prior) / 2)  # half the logit, since sigmoid(x) = (1 + tanh(x / 2)) / 2
        chosen = None if len(payoff) == 1 else _nearby(step, selections[:, place], user[place], use)
        total, towards = np.zeros(len(state)), np.tanh(state)
        for _ in range(rounds):
            state += step[0] if chosen is None else chosen((1 + towards) / 2)
            np.tanh(state, out=towards)
            total += towards
        average[place] = (1 + total / rounds) / 2
        used[place] = (2 * state - _logit(prior)) / (rate * rounds)
        return len(state)

    with progress(n, "game", "interaction") as bar, ThreadPoolExecutor(os.cpu_count()) as pool:
        for done in pool.map(block, map(slice, [0, *ends], ends)):
            bar.update(done)
    return average, used


def _nearby(payoff, selections, user, use):
    """For some users' interactions, as mirror_descent takes them: the function of (m,) their play to this round's payoffs.

    In single precision, since memory traffic takes the time.
    """
    payoff, selections = payoff.astype(np.float32), selections.astype(np.float32)
    _, start, length = np.unique(user, return_index=True, return_counts=True)
    size = np.add.reduceat(selections, start, axis=1)  # (t, u) disclosed by each anchor

    def chosen(probability):
        probability = probability.astype(np.float32)
        overlap = np.add.reduceat(selections * probability, start, axis=1)
        distance = np.add.reduceat(probability, start) + size - 2 * overlap
        if use == "nearest":
            weight = np.equal(np.arange(len(distance))[:, None], distance.argmin(0)).astype(np.float32)
        else:
            weight = 1 / np.maximum(distance, _NEAR)
            weight /= weight.sum(0)
        return (payoff * np.repeat(weight, length, axis=1)).sum(0)
    return chosen


def critical_payoff(prior: float, rounds: int, rate: float) -> float:
    """The payoff at which the round-averaged marginal of `mirror_descent` at one anchor is 1/2; above it, disclosed.

    The logits logit(prior) + t rate x, t = 1..L, are evenly spaced, so their sigmoids average 1/2 exactly where their
    middle is zero.
    """
    return -2 * _logit(prior) / (rate * (rounds + 1))


def prices_of(expected: np.ndarray, unwillingness: np.ndarray, critical: float) -> np.ndarray:
    """(n,) the price below which each interaction is disclosed, inf where nobody minds; -inf where it is at none."""
    gain = expected - critical
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(gain > 0, gain / unwillingness, -np.inf)


def prices_within_budgets(influence: np.ndarray, unwillingness: np.ndarray, budgets: list[float],
                          critical: float) -> list[float]:
    """For each budget a willingness weight (lambda >= 0) at which the disclosed unwillingness just stays within it.

    At one anchor: interaction k is disclosed until lambda reaches (I_k - critical) / b_k. Sorted by that price the disclosed
    ones are a prefix, so the search is exact; lambda is put midway between the prices of the last that fits and the first
    that does not. `budgets`: largest sums of unwillingness over the disclosed; `critical`: see critical_payoff.
    """
    priced, prices = unwillingness > 0, []
    limit = (influence[priced] - critical) / unwillingness[priced]  # the price up to which each is disclosed
    for last, out, _ in prefixes(-limit, unwillingness[priced], [float(budget) * SLACK for budget in budgets]):
        if out >= 0:  # of several at the same price, none fits unless all do
            prices.append(0.0)
        else:
            prices.append(float((-out - last) / 2 if last > -np.inf else -out * (1 + 1e-9)))
    return prices


class Game:
    """The game of all users.

    influence: (n,) influences at the anchor of everything, positive = disclosing helps; (t, n) at several anchors.
    unwillingness: (n,) array in [0, 1]; config: prior, rounds, game_rate, anchor_use.
    selections: (t, n) bool, the anchors, and user: (n,) ascending; both needed if there are several.
    """

    def __init__(self, influence: np.ndarray, unwillingness: np.ndarray, config: Config,
                 selections: np.ndarray | None = None, user: np.ndarray | None = None):
        self.influence, self.unwillingness, self.config = np.atleast_2d(influence), unwillingness, config
        self.selections, self.user = None if selections is None else np.atleast_2d(selections), user
        self.rules = config.prior, config.rounds, config.game_rate
        self.critical = critical_payoff(*self.rules)

    def play(self, weight: float, place: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """What is disclosed at lambda, (n,) bool, and the (n,) influence, averaged over the rounds.

        At one anchor in closed form, but by playing where rounding could tell otherwise. `place`: the interactions of the
        users who play; None for all.
        """
        place = slice(None) if place is None else place
        influence, cost = self.influence[:, place], weight * self.unwillingness[place]
        payoff = influence - cost
        if len(influence) > 1:
            average, payoff = mirror_descent(payoff, *self.rules, self.selections[:, place], self.user[place],
                                             self.config.anchor_use)
            return average > 0.5, payoff + cost
        disclosed = payoff[0] > self.critical
        close = _CLOSE * max(1 / (self.config.game_rate * self.config.rounds), abs(self.critical))
        near = np.flatnonzero(np.abs(payoff[0] - self.critical) <= close)
        disclosed[near] = mirror_descent(payoff[0, near], *self.rules)[0] > 0.5
        return disclosed, influence[0]

    def within(self, budget: float) -> tuple[np.ndarray, float]:
        """The largest selection that a price leads to and whose unwillingness sums to `budget` at most.

        At one anchor the price is known in closed form. At several it is found by bisection; only users whose selections
        differ at both ends of the bracket play again. Returns what is disclosed, (n,) bool, and lambda >= 0.
        """
        def price(influence):
            return prices_within_budgets(influence, self.unwillingness, [budget], self.critical)[0]

        def fits(disclosed):
            return bool(here().total(self.unwillingness[disclosed].sum()) <= budget * SLACK)
        weight, step = price(self.influence.mean(0)), _STEP
        if len(self.influence) == 1:
            return self.play(weight)[0], weight
        ends = {True: None, False: None}  # the least price known to keep within the budget, the largest known not to
        while None in ends.values():
            disclosed, influence = self.play(weight)
            inside = fits(disclosed)
            if inside and weight == 0:
                return disclosed, 0.0
            ends[inside] = weight, disclosed
            guess = price(influence)
            weight = max(min(guess, weight) * (1 - step), 0.0) if inside else max(guess, weight, _EXACT) * (1 + step)
            step *= 2
        while True:
            (low, many), (high, few) = ends[False], ends[True]
            weight = (low + high) / 2
            differ = many != few
            if high - low <= _EXACT * high or here().total(differ.sum()) <= 1 or not low < weight < high:
                return few, high
            place = np.flatnonzero(np.isin(self.user, self.user[differ]))
            disclosed = few.copy()
            disclosed[place] = self.play(weight, place)[0]
            ends[fits(disclosed)] = weight, disclosed
