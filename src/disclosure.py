"""The game: which interactions each user discloses, given their influence and her unwillingness.

A user plays a distribution over the 2^n selection vectors of her history. Within a round the payoff is additive over
interactions, so that mirror descent with the entropy as regulariser (exponentiated gradient) keeps a product
distribution a product: the marginal p_k of interaction k follows  logit p_k += gamma (I_k - lambda b_k),  which is the
update of the full table exactly, in O(n). After L rounds an interaction is disclosed if its marginal, averaged over the
rounds, exceeds 1/2.
"""
import numpy as np
import pandas as pd
from tqdm import tqdm

from .constants import ITEM, UNWILLINGNESS, UNWILLINGNESS_FILE, USER
from .dataset import dataset_folder, id_types
from .errors import InputError
from .stat_utils import generator

_COLUMNS = (USER, ITEM, UNWILLINGNESS)
_BLOCK = 1 << 14  # interactions that go through all rounds together: they fit into the processor's cache


def unwillingness_file(config):
    """Path of the unwillingness file that the settings call for, or None where they call for another source.

    Raises:
        InputError: the file is called for, but is not there.
    """
    path = dataset_folder(config) / UNWILLINGNESS_FILE
    if config.unwillingness == "file" and not path.is_file():
        raise InputError(f"{path}: no such file; write one with the columns {','.join(_COLUMNS)}, "
                         "or choose another --unwillingness")
    return path if config.unwillingness in ("file", "auto") and path.is_file() else None


def load_unwillingness(dataset, config):
    """How unwilling the user is to have each training interaction used.

    Returns:
        (n,) float64 array in [0, 1], in the order of dataset.user.

    Raises:
        InputError: the file lacks an interaction, or has a value outside [0, 1].
    """
    path = unwillingness_file(config)
    if path is not None:
        return _read_unwillingness(path, dataset)
    if config.unwillingness == "constant":
        return np.full(dataset.num_interactions, config.unwillingness_value)
    return generator(config.seed, "unwillingness").random(dataset.num_interactions)


def _read_unwillingness(path, dataset):
    try:
        table = pd.read_csv(path, **id_types(dataset))
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as e:
        raise InputError(f"{path}: is no CSV file ({' '.join(str(e).split())}); it needs {','.join(_COLUMNS)}") from e
    if missing := [c for c in _COLUMNS if c not in table]:
        raise InputError(f"{path}: has no column {', '.join(missing)}; it needs {','.join(_COLUMNS)}")
    value = pd.to_numeric(table[UNWILLINGNESS], errors="coerce")
    bad = ~value.between(0, 1).to_numpy()
    if bad.any():
        row = int(bad.argmax())
        raise InputError(f"{path}: row {row + 1} has unwillingness {table[UNWILLINGNESS][row]}; it must lie in [0, 1]")
    repeated = table.duplicated([USER, ITEM])
    if repeated.any():
        raise InputError(f"{path}: row {int(repeated.to_numpy().argmax()) + 1} repeats a user-item pair; remove it")
    wanted = pd.MultiIndex.from_arrays([dataset.user_ids[dataset.user], dataset.item_ids[dataset.item]])
    found = pd.Series(value.to_numpy(), pd.MultiIndex.from_frame(table[[USER, ITEM]])).reindex(wanted).to_numpy()
    if np.isnan(found).any():
        user, item = wanted[int(np.isnan(found).argmax())]
        raise InputError(f"{path}: lacks {np.isnan(found).sum()} training interactions, e.g. user {user}, item {item}; "
                         "add a row for each")
    return found


def _logit(p):
    return float(np.log(p / (1 - p)))


def mirror_descent(payoff, prior, rounds, rate):
    """Plays the game against fixed payoffs, in product form.

    Args:
        payoff: (n,) I - lambda b of each interaction, what its disclosure is worth to its user.
        prior: probability of disclosure before the first round.
        rounds: L.
        rate: gamma, the step size.

    Returns:
        (n,) float64 array: the marginal probability of disclosure after each round's update, averaged over the rounds.
    """
    payoff = np.asarray(payoff, np.float64)
    average = np.empty(len(payoff))
    with tqdm(total=len(payoff), desc="game", unit="interaction", disable=None) as bar:
        for start in range(0, len(payoff), _BLOCK):
            step = rate * payoff[start:start + _BLOCK] / 2
            state = np.full(len(step), _logit(prior) / 2)  # half the logit, since sigmoid(x) = (1 + tanh(x / 2)) / 2
            total = np.zeros(len(step))
            for _ in range(rounds):
                state += step
                total += np.tanh(state)
            average[start:start + _BLOCK] = (1 + total / rounds) / 2
            bar.update(len(step))
    return average


def critical_payoff(prior, rounds, rate):
    """The payoff at which the round-averaged marginal of `mirror_descent` is 1/2; above it the interaction is disclosed.

    The logits logit(prior) + t rate x, t = 1..L, are evenly spaced, so their sigmoids average 1/2 exactly where their
    middle is zero.
    """
    return -2 * _logit(prior) / (rate * (rounds + 1))


def price_within_budget(influence, unwillingness, budget, critical):
    """A willingness weight (lambda >= 0) at which the disclosed unwillingness just stays within the budget.

    Interaction k is disclosed as long as I_k - lambda b_k exceeds the critical payoff, that is, until lambda reaches
    (I_k - critical) / b_k. Sorted by that price the disclosed ones are a prefix, so the search is exact; lambda is put
    midway between the prices of the last that fits and the first that does not.

    Args:
        influence, unwillingness: (n,) arrays.
        budget: largest sum of unwillingness over the disclosed interactions.
        critical: see critical_payoff.

    Returns:
        lambda.
    """
    priced = unwillingness > 0
    limit = (influence[priced] - critical) / unwillingness[priced]  # the price up to which each is disclosed
    order = np.argsort(-limit, kind="stable")
    limit, spent = limit[order], np.cumsum(unwillingness[priced][order])
    inside = int(np.searchsorted(spent, budget * (1 + 1e-12), side="right"))
    if inside == len(limit) or limit[inside] <= 0:
        return 0.0
    first_out = limit[inside]
    above = limit[:inside][limit[:inside] > first_out]  # of several at the same price, none fits unless all do
    return float((first_out + above[-1]) / 2 if len(above) else first_out * (1 + 1e-9))


def choose_disclosure(influence, unwillingness, config):
    """Plays the game for all users.

    Args:
        influence: (n,) influences, positive = disclosing helps.
        unwillingness: (n,) array in [0, 1].
        config: wv_budget or willingness_weight; prior, rounds, game_rate.

    Returns:
        disclosed: (n,) bool.
        willingness_weight: lambda, as given or as found for the budget.
    """
    weight = config.willingness_weight
    if weight is None:
        critical = critical_payoff(config.prior, config.rounds, config.game_rate)
        weight = price_within_budget(influence, unwillingness, config.wv_budget * unwillingness.sum(), critical)
    average = mirror_descent(influence - weight * unwillingness, config.prior, config.rounds, config.game_rate)
    return average > 0.5, weight
