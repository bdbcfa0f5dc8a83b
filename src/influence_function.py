"""What each training interaction is worth to its own user: I = grad l(y)^T H^-1 grad l(s_k) (Koh and Liang, ICML 2017).

l(y) is the cross-entropy of the user's validation item y, l(s_k) that of the interaction, in nats; H is the Hessian of the
sum of the training losses, sampled negatives included. I predicts by how much l(y) RISES if the interaction is withheld
(left out of training; it does not become a negative): positive means that disclosing it helps its user. Solvers:
influence/block.py (`block`, `blend`), influence/lissa.py, or a file. See docs/maths.md, section 3.
"""
from __future__ import annotations

import contextlib
import json

import numpy as np

from .common import plugins
from .common.errors import InputError
from .common.share import here
from .common.terminal import progress
from .config import Config
from .dataset import Dataset, without_test_items
from .influence.block import Blend, Block
from .influence.chunks import Chunks
from .influence.expected import default_shrinkage, expected_by, expected_influence, on_validation, shrunk, target_items
from .influence.lissa import Lissa
from .network import Network, build

SOLVERS = {"block": Block, "blend": Blend, "lissa": Lissa}
OWN_DATA = ("blend", "block")  # solvers that look at a user's own data and the items alone


def influences(parameters: list[dict], dataset: Dataset, config: Config, targets: np.ndarray | None = None,
               disclosed: np.ndarray | None = None) -> tuple[np.ndarray, dict]:
    """Influence of every training interaction at one anchor: the mean over its sets of parameters.

    parameters: list of sets of parameters, see Network.values, of a model that was trained on what the anchor discloses.
    dataset: Dataset whose history and validation items are used; the test items are not looked at.
    config: solver and its options, num_neg, chunk_size, seed, num_factors, layers.
    targets: (num_users, t) int32, items whose losses are predicted instead of the validation item's.
    disclosed: (n,) bool, the anchor; None for everything. Of what it withholds, the influence is what disclosing it too
        would be worth.
    Returns influence: (n,) float64 array in the order of dataset.user, or (n, t) with targets; nats, positive = disclosing
        helps the user; report: dict, what the solver says about its solution.
    Raises FloatingPointError: an influence is not finite, or the recursion of `lissa` grows.
    Raises InputError: a solver of the user's own fails.
    """
    file, wanted = config.solver not in SOLVERS, target_items(dataset, 0) if targets is None else targets
    with plugins.guarded(config.solver, "solver", "failed") if file else contextlib.nullcontext(), \
            progress(len(parameters) * dataset.num_interactions, "influence", "interaction") as bar:
        made = plugins.load(config.solver, "solver", "Solver").Solver if file else SOLVERS[config.solver]
        dataset = without_test_items(dataset) if file else dataset
        chunks, net = Chunks(dataset, config, disclosed), build(dataset, config)
        solver, influence = made(net, dataset, chunks, config, wanted), np.zeros((dataset.num_interactions, wanted.shape[1]))
        for values in parameters:
            net.set_values(values)
            solver.start()
            for k in range(len(chunks)):
                chunk, place = chunks[k], chunks.positions(k)
                found, shape = np.asarray(solver(chunk), np.float64), (*chunk.inside.shape, wanted.shape[1])
                if found.shape != shape:
                    raise InputError(f"--solver {config.solver}: returned an array {found.shape} for a chunk of {shape}; "
                                     "see docs/CONTRIBUTING.md")
                influence[place] += _finite(found[chunk.inside], config)
                bar.update(len(place))
        report = json.loads(json.dumps(dict(solver.report()), allow_nan=False))  # as preprocess.json holds it
    influence /= len(parameters)
    return influence[:, 0] if targets is None else influence, report


def influences_of_pairs(parameters: list[dict], disclosed: Dataset, pairs: tuple[np.ndarray, np.ndarray],
                        targets: np.ndarray, config: Config, net: Network) -> np.ndarray:
    """Influence of any pairs of users and items where models were trained on what is disclosed: see influences.

    What is found of a pair depends on the parameters, on what is disclosed and on its user's targets alone, to the last bit,
    whatever other pairs are asked about: it is what its user's own device would compute.
    parameters: list of sets of parameters that were trained on `disclosed`, a Dataset, of which Hessians are made.
    pairs: (n,) int32 users and (n,) int32 items; targets: (num_users, t) int32, items whose losses are predicted.
    config: solver, one of OWN_DATA, and its options, num_neg, chunk_size, seed.
    net: Network of these users and items; is given the parameters.
    Returns: (n, t) float64, nats, positive = disclosing helps; 0 for a user who has disclosed nothing yet.
    """
    (user, item), chunks = pairs, Chunks(disclosed, config, purpose="negatives of a device", own=True)
    solver = SOLVERS[config.solver](net, disclosed, chunks, config, targets)
    influence, size = np.zeros((len(user), targets.shape[1])), chunks.pairs_per_call
    with progress(len(parameters) * len(user), "influence", "interaction") as bar:
        for values in parameters:
            net.set_values(values)
            solver.start()
            for k in range(len(chunks)):
                solver.solve(chunks[k])
            for start in range(0, len(user) if len(chunks) else 0, size):
                place = np.arange(start, min(start + size, len(user)))
                filled = np.resize(place, size)  # all calls have one shape
                influence[place] += _finite(solver.of_pairs(user[filled], item[filled])[:len(place)], config)
                bar.update(len(place))
    return influence / len(parameters)


def _finite(found, config):
    if not np.isfinite(found).all():
        raise FloatingPointError(f"--solver {config.solver}: {(~np.isfinite(found)).sum()} influences of {len(found)} are "
                                 "not finite; raise damping, or train the model anew with a lower learning_rate")
    return found


def expected_at(parameters: list[dict], dataset: Dataset, config: Config,
                disclosed: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, dict]:
    """What the game goes by at one anchor: the influence that is expected on the item that comes next.

    Takes and raises what influences does; config: also influence_lags and shrinkage.
    Returns influence: (n,) on the validation item, or on what stands in for it, whose own is on the item before; nats,
        positive = disclosing helps; 0 of whom nothing is known; expected: (n,) float64, see expected_influence, and shrunk;
        of whom nothing is known the mean of the others; report: dict.
    """
    targets = target_items(dataset, max(config.influence_lags, int(dataset.validation is None)))
    if (last := dataset.yardstick).any():  # the model was not trained on what stands in for validation items
        disclosed = ~last if disclosed is None else disclosed & ~last
    found, report = influences(parameters, dataset, config, targets, disclosed)
    expected, report["expectation"] = expected_influence(found, dataset) if config.influence_lags else (
        expected_by({}, found, dataset), {})
    shrinkage = default_shrinkage(dataset) if config.shrinkage is None else config.shrinkage
    known = dataset.informed
    mean = here().total(expected[known].sum()) / max(1, here().total(known.sum()))
    report.update(shrinkage=float(shrinkage), expected_mean=float(mean))
    unknown = shrunk(expected[~known], 1, mean)
    expected = shrunk(expected, shrinkage, mean)
    expected[~known] = unknown
    return on_validation(found, dataset), expected, report
