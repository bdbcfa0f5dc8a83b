"""How well influences predict real retraining: the fidelity study, started by scripts/run_fidelity.sh.

Linear datamodeling score (LDS; Park et al., TRAK, ICML 2023): for random halves of every user's training interactions NCF
is trained anew. The score of a user is Spearman's rank correlation, over the halves, between the sum of the influences of
the kept interactions and minus the loss of the validation item; that of a solver is the mean over users. The ceilings say
how well anything could predict, the contrast what the most and the least influential halves come to.
See docs/maths.md, section 3.
"""
import time

import numpy as np
import pandas as pd

from src import metrics
from src.common.errors import InputError
from src.common.plugins import label, plugin_files
from src.common.stage import main
from src.common.terminal import progress
from src.common.variant import dataset_files
from src.dataset import load_dataset
from src.game.anchors import load_model, trained_model
from src.game.strategies import influence_groups
from src.influence_function import SOLVERS, influences
from src.options import TRAINED
from src.stat_utils import generator

from .grid import Retraining, Study, grid, markdown_table, names_of, needs_validation
from .masks import name_of

OWN = {"fidelity_masks": ("int [3, inf)", 32, "random subsets of every user's interactions that NCF is retrained on"),
       "fidelity_repeats": ("int [1, inf)", 2, "retrainings with different seeds on each subset"),
       "fidelity_keep": ("float (0, 1)", 0.5, "share of each user's interactions in a subset"),
       "fidelity_solvers": ("str", "blend,block,lissa", "solvers to study")}
LOSS, RANK_LOSS, TEST_RANK = range(3)  # what is kept of a retraining, each (scored users,)
OWN_SHARE = 10  # one user in so many keeps the own half while all others draw new ones
SCORE_RESAMPLES = 400  # of the bootstrap over users and subsets
SEED_STEP = 10_000  # seeds of retrainings lie apart from those of the models that influences come from


def softmax_loss(scores):
    """(num_users,) cross-entropy in nats of a softmax over the candidates, whose right answer is column 0."""
    scores = scores.astype(np.float64)
    return np.logaddexp.reduce(scores, axis=1) - scores[:, 0]


def fidelity(config):
    """The study on the dataset that the settings name; writes fidelity.json and fidelity.md.

    Raises:
        InputError: an unknown solver, or the dataset or a checkpoint is missing or unfit.
    """
    solvers = names_of(config, "fidelity_solvers", "solver", SOLVERS)
    if config.model != "ncf" and "lissa" in solvers:
        if "fidelity_solvers" in config.given:
            raise InputError(f"--fidelity_solvers {config.fidelity_solvers}: lissa is written for the parameters of ncf; "
                             f"with --model {config.model} leave it out")
        solvers.remove("lissa")
    needs_validation(config)
    dataset = load_dataset(config)
    if subset(dataset, np.zeros(dataset.num_interactions), config.fidelity_keep).all():
        raise InputError(f"--fidelity_keep {config.fidelity_keep}: keeps every interaction of every user, as histories "
                         "are short and shares are rounded up; lower it")
    study = Study("fidelity", __name__, config)
    found = influences_of(study, solvers, dataset)
    subsets, mixed = random_subsets(dataset, config)
    losses, others, halves = retrained(study, dataset, subsets, mixed, found.influence)
    report = {"dataset": config.dataset, "seed": config.seed, "num_users": dataset.num_users,
              "num_interactions": dataset.num_interactions,
              "masks": config.fidelity_masks, "repeats": config.fidelity_repeats, "keep": config.fidelity_keep,
              "ceilings": {name: ceilings(losses[:, :, k], others[:, k, ::OWN_SHARE])
                           for name, k in (("loss", LOSS), ("rank_loss", RANK_LOSS))},
              "solvers": {}}
    rng = generator(config.seed, "bootstrap")
    for row, (top, bottom) in zip(found.itertuples(), halves):
        scores = scores_of(predicted_losses(row.influence, subsets, dataset), losses.mean(1), rng)
        report["solvers"][label(row.solver)] = {"seconds": row.seconds, **scores, "contrast": {
            "top": contrast(top, config.top_k), "bottom": contrast(bottom, config.top_k)}}
    study.publish(report, table(report))


def influences_of(study, solvers, dataset):
    """DataFrame with, for each solver, its influences, (n,), and the seconds that they took."""
    config, checkpoint = study.config, trained_model(study.config)
    models = list(load_model(dataset, config)[0].values())

    def measure(solver):
        start = time.perf_counter()
        values, _ = influences(models, dataset, config.replace(solver=solver))
        return {"influence": values, "seconds": time.perf_counter() - start}
    groups = ("split", "model", *TRAINED, *influence_groups(config, solvers))
    depends = study.depends(groups, [*dataset_files(config), checkpoint, *plugin_files(config.model)],
                            rows=dataset.rows_sha256())
    return grid(study, [{"solver": solver} for solver in solvers], measure, depends, "influences")


def retrained(study, dataset, subsets, mixed, found):
    """What retrainings come to, of the validation items their loss in nats and that of a softmax, and ranks of test items.

    Args:
        subsets, mixed: see random_subsets.
        found: influences, (n,), of each solver.

    Returns:
        losses: (masks, repeats, 3, scored users), on the subsets: LOSS, RANK_LOSS, TEST_RANK.
        others: (masks, 3, scored users), on the mixed subsets.
        halves: for each solver (2, repeats, 3, scored users), on the most and the least influential half.
    """
    config, repeats = study.config, study.config.fidelity_repeats
    retraining = Retraining(dataset, config, study.device)
    chosen = [kept for own, other in zip(subsets, mixed) for kept in (*[own] * repeats, other)]
    chosen += [subset(dataset, order, 0.5) for influence in found for order in (-influence, influence)
               for _ in range(repeats)]

    def measure(number, kept):
        scored = retraining(dataset.part(chosen[number - 1]), SEED_STEP * (1 + config.seed) + number)
        scores = scored(retraining.validation)
        return {"result": np.stack([metrics.cross_entropy(scores)[:, 0], softmax_loss(scores),
                                    metrics.ranks(scored(retraining.test), retraining.counts)])}
    cells = [{"number": number, "kept": name_of(kept)}
             for number, kept in enumerate(chosen, 1)]
    depends = study.depends(("split", "model", *TRAINED), [*dataset_files(config), *plugin_files(config.model)],
                            rows=dataset.rows_sha256())
    results = np.stack(grid(study, cells, measure, depends, "retrainings").result)
    first, halves = np.split(results, [len(subsets) * (1 + repeats)])
    first = first.reshape(len(subsets), 1 + repeats, *results.shape[1:])
    return first[:, :-1], first[:, -1], halves.reshape(len(found), 2, repeats, *results.shape[1:])


def scores_of(predicted, losses, rng):
    """The LDS of (masks, users) predicted losses against (masks, 3, users) mean ones, with 95% intervals."""
    row = {}
    for metric, k in (("lds_loss", LOSS), ("lds_rank_loss", RANK_LOSS)):
        correlation = spearman(predicted, losses[:, k])
        row[metric] = float(np.nanmean(correlation))
        row[f"{metric}_interval"] = score_interval(predicted, losses[:, k], rng)
        row["users"] = int(np.isfinite(correlation).sum())
    return row


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


def predicted_losses(influence, subsets, dataset):
    """(masks, scored users): minus the sum of the influences of each user's kept interactions."""
    return -np.array([dataset.history.sums(influence * mask)[dataset.scored] for mask in subsets])


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
    with progress(SCORE_RESAMPLES, "bootstrap", "sample") as bar:
        for _ in range(SCORE_RESAMPLES):
            drawn_masks, drawn_users = rng.integers(0, masks, masks)[:, None], rng.integers(0, users, users)
            correlation = spearman(predicted[drawn_masks, drawn_users], measured[drawn_masks, drawn_users])
            means.append(np.nanmean(correlation) if np.isfinite(correlation).any() else np.nan)
            bar.update()
    low = np.nanmean(spearman(predicted, measured)) - np.nanmean(means)
    return [float(q + low) for q in np.nanquantile(means, (0.025, 0.975))]


def ceilings(losses, others):
    """How far retrainings agree, and so how well anything could predict their mean.

    Args:
        losses: (masks, repeats, num_users).
        others: (masks, users), see random_subsets.

    Returns:
        dict: seed_agreement a, mean correlation of two retrainings on the same subsets; own_agreement o, the same if only
        the user's own subset is the same; ceiling_seed sqrt(a / r) and ceiling_own sqrt(o / r) with r the variance of the
        mean, a + (1 - a) / repeats. None where there is a single repeat.
    """
    repeats = losses.shape[1]
    if repeats < 2:
        return dict.fromkeys(("seed_agreement", "own_agreement", "ceiling_seed", "ceiling_own"))
    seed = float(np.nanmean(spearman(losses[:, 0], losses[:, 1])))
    own = float(np.nanmean([spearman(losses[:, k, ::OWN_SHARE], others) for k in range(repeats)]))
    variance = max(seed + (1 - seed) / repeats, 1e-12)
    return {"seed_agreement": seed, "own_agreement": own, "ceiling_seed": max(seed / variance, 0) ** 0.5,
            "ceiling_own": max(own / variance, 0) ** 0.5}


def contrast(runs, k):
    """What (repeats, 3, users) retrainings on a half come to: mean loss in nats, and HR@k of the test items."""
    return {"loss": float(runs[:, LOSS].mean()),
            f"test_hr@{k}": float(np.mean([metrics.hit_ratio_of_ranks(rank, k) for rank in runs[:, TEST_RANK]]))}


def table(report):
    """The result as Markdown."""
    rows = []
    for name, row in report["solvers"].items():
        scores = [f"{row[m]:.3f} ({row[f'{m}_interval'][0]:.3f} to {row[f'{m}_interval'][1]:.3f})"
                  for m in ("lds_loss", "lds_rank_loss")]
        halves = ", ".join(f"{value:.3f}" for half in row["contrast"].values() for key, value in half.items()
                           if key.startswith("test_hr"))
        rows.append([name, *scores, f"{row['seconds']:.1f}", halves])
    lines = [markdown_table(["solver", "LDS of the loss (95%)", "LDS of the ranking loss", "seconds",
                             "test HR of the most, least influential half"], rows), ""]
    for name, values in report["ceilings"].items():
        if values["ceiling_own"] is not None:
            lines.append(f"{name}: seeds agree to {values['seed_agreement']:.3f}, with the user's own subset alone to "
                         f"{values['own_agreement']:.3f}: a prediction from it can reach about {values['ceiling_own']:.2f}")
    return "\n".join(lines)


if __name__ == "__main__":
    main(fidelity, "run_fidelity", __doc__, own=OWN)
