"""How well influences predict real retraining: the fidelity study, started by scripts/run_fidelity.sh.

Linear datamodeling score (LDS; Park et al., TRAK, ICML 2023): for random halves of every user's training interactions NCF
is trained anew. The score of a user is Spearman's rank correlation, over the halves, between the sum of the influences of
the kept interactions and minus the loss of the validation item; that of a solver is the mean over users. The ceilings say
how well anything could predict from a user's own interactions. See docs/maths.md, section 3.
"""
import time

import numpy as np
import pandas as pd

from src import metrics
from src.common.errors import InputError
from src.common.plugins import label, plugin_files
from src.common.seeds import seed_settings
from src.common.stage import main
from src.common.variant import dataset_files
from src.dataset import load_dataset
from src.game.anchors import load_model, trained_model
from src.game.strategies import influence_groups
from src.influence_function import SOLVERS, influences
from src.options import TRAINED
from src.stat_utils import generator

from .grid import Retraining, Study, averages, grid, names_of, needs_validation
from .masks import name_of

OWN = {"fidelity_masks": ("int [3, inf)", 32, "random subsets of every user's interactions that NCF is retrained on"),
       "fidelity_repeats": ("int [1, inf)", 2, "retrainings with different seeds on each subset"),
       "fidelity_keep": ("float (0, 1)", 0.5, "share of each user's interactions in a subset"),
       "fidelity_solvers": ("str", "blend,block", "solvers to study")}
LOSS, RANK_LOSS, TEST_RANK = range(3)  # what is kept of a retraining, each (scored users,)
OWN_SHARE = 10  # one user in so many keeps the own half while all others draw new ones
SCORE_RESAMPLES = 400  # of the bootstrap over users and subsets
SCORES = {"lds": (LOSS, "LDS of the loss"), "rank_lds": (RANK_LOSS, "of the ranking loss")}
SEED_STEP = 10_000  # seeds of retrainings lie apart from those of the models that influences come from


def softmax_loss(scores):
    """(num_users,) cross-entropy in nats of a softmax over the candidates, whose right answer is column 0."""
    scores = scores.astype(np.float64)
    return np.logaddexp.reduce(scores, axis=1) - scores[:, 0]


def fidelity(config):
    """The study on the dataset that the settings name; writes fidelity.csv and fidelity.md.

    Raises:
        InputError: an unknown solver, or the dataset or a checkpoint is missing or unfit.
    """
    solvers = names_of(config, "fidelity_solvers", "solver", SOLVERS)
    if config.model != "ncf" and "lissa" in solvers:
        raise InputError(f"--fidelity_solvers {config.fidelity_solvers}: lissa is written for the parameters of ncf; "
                         f"with --model {config.model} leave it out")
    needs_validation(config)
    study, k = Study("fidelity", __name__, config), config.top_k
    table = pd.DataFrame([row for one in [seed_settings(config, seed) for seed in config.seeds] or [config]
                          for row in rows_of(study, one, solvers)])
    titles = {f"{key}{end}": said for key, (_, title) in SCORES.items() for end, said in {
        "": title, "_low": "from", "_high": "to", "_ceiling": "at most"}.items()}
    study.publish(table, averages(table, ["solver"], {
        **titles, "seconds": "seconds", f"most_hr@{k}": f"HR@{k}, most influential half", f"least_hr@{k}": "least"}, 3))


def rows_of(study, config, solvers):
    """The rows of fidelity.csv of one seed, which `config` has."""
    dataset = load_dataset(config)
    if subset(dataset, np.zeros(dataset.num_interactions), config.fidelity_keep).all():
        raise InputError(f"--fidelity_keep {config.fidelity_keep}: keeps every interaction of every user, as histories "
                         "are short and shares are rounded up; lower it")
    found = influences_of(study, config, solvers, dataset)
    subsets, mixed = random_subsets(dataset, config)
    losses, others, halves = retrained(study, config, dataset, subsets, mixed, found.influence)
    rows, rng = [], generator(config.seed, "bootstrap")
    for solver, (most, least) in zip(found.itertuples(), halves):
        row = {"solver": label(solver.solver), "seed": config.seed, "seconds": solver.seconds}
        predicted = -np.array([dataset.history.sums(solver.influence * mask)[dataset.scored] for mask in subsets])
        for key, (k, _) in SCORES.items():
            mean = losses[:, :, k].mean(1)
            row[key] = np.nanmean(spearman(predicted, mean))
            row[f"{key}_low"], row[f"{key}_high"] = score_interval(predicted, mean, rng)
            row[f"{key}_ceiling"] = ceiling(losses[:, :, k], others[:, k, ::OWN_SHARE])
        for name, runs in (("most", most), ("least", least)):
            row[f"{name}_hr@{config.top_k}"] = metrics.hit_ratio_of_ranks(runs[:, TEST_RANK].ravel(), config.top_k)
        rows.append(row)
    return rows


def influences_of(study, config, solvers, dataset):
    """DataFrame with, for each solver, its influences, (n,), and the seconds that they took."""
    checkpoint = trained_model(config)
    models = list(load_model(dataset, config)[0].values())

    def measure(solver):
        start = time.perf_counter()
        values, _ = influences(models, dataset, config.replace(solver=solver))
        return {"influence": values, "seconds": time.perf_counter() - start}
    depends = study.depends(("split", "model", *TRAINED, *influence_groups(config, solvers)),
                            [*dataset_files(config), checkpoint, *plugin_files(config.model)], config,
                            rows=dataset.rows_sha256())
    return grid(study, [{"solver": solver} for solver in solvers], measure, depends, f"seed_{config.seed}/influences")


def retrained(study, config, dataset, subsets, mixed, found):
    """What retrainings come to: losses of the validation items and ranks of the test items, (..., 3, scored users).

    Returns:
        (masks, repeats, ...) on the subsets, (masks, ...) on the mixed ones, and for each solver, whose influences (n,) are
        in `found`, (2, repeats, ...) on the most and the least influential half.
    """
    repeats = config.fidelity_repeats
    retraining = Retraining(dataset, config, study.device)
    chosen = [kept for own, other in zip(subsets, mixed) for kept in (*[own] * repeats, other)]
    chosen += [subset(dataset, order, 0.5) for influence in found for order in (-influence, influence)
               for _ in range(repeats)]

    def measure(number, kept):
        scored = retraining(dataset.part(chosen[number - 1]), SEED_STEP * (1 + config.seed) + number)
        scores = scored(retraining.validation)
        return {"result": np.stack([metrics.cross_entropy(scores)[:, 0], softmax_loss(scores),
                                    metrics.ranks(scored(retraining.test), retraining.counts)])}
    cells = [{"number": number, "kept": name_of(kept)} for number, kept in enumerate(chosen, 1)]
    depends = study.depends(("split", "model", *TRAINED), [*dataset_files(config), *plugin_files(config.model)], config,
                            rows=dataset.rows_sha256())
    results = np.stack(grid(study, cells, measure, depends, f"seed_{config.seed}/retrainings").result)
    first, halves = np.split(results, [len(subsets) * (1 + repeats)])
    first = first.reshape(len(subsets), 1 + repeats, *results.shape[1:])
    return first[:, :-1], first[:, -1], halves.reshape(len(found), 2, repeats, *results.shape[1:])


def subset(dataset, order_by, share):
    """(n,) bool: of each user the interactions with the smallest `order_by` (n,), `share` of them, rounded up."""
    of_user = pd.Series(order_by).groupby(dataset.user)
    number = np.ceil(share * of_user.transform("size") - 1e-9)  # 0.55 * 100 is above 55
    return (of_user.rank(method="first") <= number).to_numpy()


def random_subsets(dataset, config):
    """(masks, n) bool: random subsets; and others, of which only one user in OWN_SHARE has the own part of the subset."""
    own = np.isin(np.arange(dataset.num_users), dataset.scored[::OWN_SHARE])
    subsets, mixed = [], []
    for k in range(config.fidelity_masks):
        order, other = (generator(config.seed, purpose, k).random(dataset.num_interactions)
                        for purpose in ("subset", "subset of the others"))
        subsets.append(subset(dataset, order, config.fidelity_keep))
        mixed.append(subset(dataset, np.where(own[dataset.user], order, other), config.fidelity_keep))
    return np.array(subsets), np.array(mixed)


def spearman(a, b):
    """(users,) Spearman's rank correlation over the first axis of two (masks, users) arrays; NaN where one is constant."""
    return pd.DataFrame(a).rank().corrwith(pd.DataFrame(b).rank()).to_numpy()


def score_interval(predicted, measured, rng):
    """Bounds of the 95% bootstrap interval of the mean over users of their rank correlations; (masks, num_users) arrays.

    Users and subsets are drawn anew, since all users share the subsets: what others withhold moves all of their losses.
    Subsets that are drawn twice are ties, which lower a rank correlation: the bounds are raised by the mean of that.
    """
    masks, users = predicted.shape
    means = []
    for _ in range(SCORE_RESAMPLES):
        drawn_masks, drawn_users = rng.integers(0, masks, masks)[:, None], rng.integers(0, users, users)
        correlation = spearman(predicted[drawn_masks, drawn_users], measured[drawn_masks, drawn_users])
        means.append(np.nanmean(correlation) if np.isfinite(correlation).any() else np.nan)
    low = np.nanmean(spearman(predicted, measured)) - np.nanmean(means)
    return [float(q + low) for q in np.nanquantile(means, (0.025, 0.975))]


def ceiling(losses, others):
    """How well anything could predict mean losses from a user's own part of a subset, by how far retrainings agree.

    Args:
        losses: (masks, repeats, num_users).
        others: (masks, users), see random_subsets.

    Returns:
        sqrt(o / r): o is the mean correlation of two retrainings where only the user's own part is the same, r the variance
        of the mean, a + (1 - a) / repeats, with a the correlation on the same subsets. NaN where there is a single repeat.
    """
    repeats = losses.shape[1]
    if repeats < 2:
        return np.nan
    same = float(np.nanmean(spearman(losses[:, 0], losses[:, 1])))
    own = float(np.nanmean([spearman(losses[:, k, ::OWN_SHARE], others) for k in range(repeats)]))
    return max(own / max(same + (1 - same) / repeats, 1e-12), 0) ** 0.5


if __name__ == "__main__":
    main(fidelity, "run_fidelity", __doc__, own=OWN)
