"""How well influences predict real retraining: the fidelity study, started by scripts/run_fidelity.sh.

Linear datamodeling score (LDS; Park et al., TRAK, ICML 2023): for random halves of every user's training interactions NCF
is trained anew. The score of a user is Spearman's rank correlation, over the halves, between the sum of the influences of
the kept interactions and minus the loss of the validation item; that of a solver is the mean over users. The ceilings say
how well anything could predict, the contrast what the most and the least influential halves come to.
See docs/maths.md, section 3.
"""
import logging
import shutil
import time
from pathlib import Path

import numpy as np
import pandas as pd

from src import metrics
from src.common.errors import InputError
from src.common.figures import drawn
from src.common.files import write_json
from src.common.plugins import label, plugin_files
from src.common.stage import Stage, kept, main
from src.common.terminal import RESULT, progress
from src.common.variant import dataset_files
from src.constants import FIDELITY_FILE, FIDELITY_PLOT
from src.dataset import load_dataset
from src.device_adapter import set_device
from src.game.anchors import load_model, trained_model
from src.game.strategies import influence_groups
from src.influence.anchor import Anchor
from src.influence_function import SOLVERS, influences
from src.options import EVALUATED, TRAINED
from src.stat_utils import generator

from .figures import fidelity_plot
from .retraining import Retraining, names_of, needs_validation

logger = logging.getLogger("ifrqe")

OWN = {"fidelity_masks": ("int [3, inf)", 32, "random subsets of every user's interactions that NCF is retrained on"),
       "fidelity_repeats": ("int [1, inf)", 2, "retrainings with different seeds on each subset"),
       "fidelity_keep": ("float (0, 1)", 0.5, "share of each user's interactions in a subset"),
       "fidelity_solvers": ("str", "blend,block,lissa", "solvers to study, the first one in the picture")}
LOSS, RANK_LOSS, TEST_RANK = range(3)  # what is kept of a retraining, each (num_users,)
OWN_SHARE = 10  # one user in so many keeps the own half while all others draw new ones
RESAMPLES = 2000  # of the bootstrap over users
SCORE_RESAMPLES = 400  # of that over users and subsets
SEED_STEP = 10_000  # seeds of retrainings lie apart from those of the models that influences come from


def fidelity(config):
    """The study on the dataset that the settings name; writes fidelity.json and fidelity.png.

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
    checkpoint = trained_model(config)
    output = Path(config.output_path)
    device = set_device(config)
    groups = ("split", "model", *TRAINED, *influence_groups(config, solvers), *EVALUATED)
    dataset = load_dataset(config)
    if subset(dataset, np.zeros(dataset.num_interactions), config.fidelity_keep).all():
        raise InputError(f"--fidelity_keep {config.fidelity_keep}: keeps every interaction of every user, as histories "
                         "are short and shares are rounded up; lower it")
    inputs = [*dataset_files(config), checkpoint, *plugin_files(*solvers, config.model)]
    stage = Stage("fidelity", __name__, config, groups, inputs, [output / FIDELITY_FILE], device,
                  {"rows": dataset.rows_sha256(), "own": config.own})
    if stage.is_done():
        return
    models = list(load_model(dataset, config)[0].values())
    logger.info("fidelity of %s (%s): %d random subsets that keep %g of each user's interactions, %d retrainings on each",
                dataset.name, device, config.fidelity_masks, config.fidelity_keep, config.fidelity_repeats)
    found = {label(name): _influences(name, models, dataset, config) for name in solvers}
    number = config.fidelity_masks * (config.fidelity_repeats + 1) + 2 * config.fidelity_repeats * len(solvers)
    retrainings = Retrainings(dataset, config, device, stage.depends, number)
    subsets, measured, others = random_subsets(retrainings, config)
    report = {"dataset": config.dataset, "seed": config.seed, "num_users": dataset.num_users,
              "num_interactions": dataset.num_interactions, "parameter_sets": len(models),
              "masks": config.fidelity_masks, "repeats": config.fidelity_repeats, "keep": config.fidelity_keep,
              "ceilings": {name: ceilings(measured[:, :, k], others[:, k])
                           for name, k in (("loss", LOSS), ("rank_loss", RANK_LOSS))},
              "solvers": {}}
    rng = generator(config.seed, "bootstrap")
    losses, predicted, per_user = measured.mean(1), {}, {}
    for name, (influence, seconds, extra) in found.items():
        predicted[name] = predicted_losses(influence, subsets, dataset)
        scores, per_user[name] = _scores(predicted[name], losses, rng)
        report["solvers"][name] = {"seconds": seconds, **extra, **scores,
                                   "contrast": contrast(influence, retrainings, config, rng)}
    write_json(output / FIDELITY_FILE, report)
    stage.finish()
    drawn(fidelity_plot, output / FIDELITY_PLOT, predicted[label(solvers[0])], losses[:, LOSS], per_user,
          report["ceilings"]["loss"], f"{dataset.name}: do influences predict retraining?")
    shutil.rmtree(retrainings.folder)
    logger.log(RESULT, "%s", table(report))


def _influences(name, models, dataset, config):
    """Influences by one solver, the seconds that they took, and the solver's report."""
    start = time.perf_counter()
    values, extra = influences(Anchor(models), dataset, config.replace(solver=name))
    return values, time.perf_counter() - start, extra


def _scores(predicted, losses, rng):
    """Scores of (masks, num_users) predicted losses by mean (masks, 3, num_users) ones, and users' ones for the loss."""
    row, per_user = {}, {}
    for metric, k in (("lds_loss", LOSS), ("lds_rank_loss", RANK_LOSS)):
        correlation = spearman(predicted, losses[:, k])
        per_user[metric] = correlation[np.isfinite(correlation)]
        row[metric] = float(np.nanmean(correlation))
        row[f"{metric}_interval"] = score_interval(predicted, losses[:, k], rng)
        row["users"] = len(per_user[metric])
    return row, per_user["lds_loss"]


class Retrainings:
    """Trains NCF from scratch on parts of the training interactions, or finds what an interrupted study has left.

    Args:
        key: dict of all that the trainings depend on.
        total: number of trainings that will be asked for.
    """

    def __init__(self, dataset, config, device, key, total):
        self.dataset, self.config, self.key = dataset, config, key
        self.folder = Path(config.output_path) / "fidelity"  # where each is kept in a file of its own
        self.retrain = Retraining(dataset, config, device)
        self.done = 0
        self.bar = progress(total, "retraining", "model")

    def __call__(self, chosen):
        """(3, num_users) after a training on the interactions `chosen`, (n,) bool: LOSS, RANK_LOSS, TEST_RANK.

        These are the cross-entropy of the validation item and that of a softmax over it and its negatives, in nats, and the
        0-based rank of the test item.
        """
        self.done += 1
        seed = SEED_STEP * (1 + self.config.seed) + self.done
        result = kept(self.folder / f"{self.done}.npz", self.key, lambda: {"result": self._train(chosen, seed)},
                      self.config.overwrite)["result"]
        self.bar.update()
        if 10 * self.done // self.bar.total > 10 * (self.done - 1) // self.bar.total:
            logger.info("retraining %d of %d", self.done, self.bar.total)
        return result

    def _train(self, chosen, seed):
        scored = self.retrain(self.dataset.part(chosen), seed)
        scores = scored(self.retrain.validation)
        return np.stack([metrics.cross_entropy(scores)[:, 0], metrics.softmax_loss(scores),
                         metrics.ranks(scored(self.retrain.test), self.retrain.counts)])


def subset(dataset, order_by, share):
    """(n,) bool: of each user the interactions with the smallest `order_by` (n,), `share` of them, rounded up."""
    of_user = pd.Series(order_by).groupby(dataset.user)
    number = np.ceil(share * of_user.transform("size") - 1e-9)  # 0.55 * 100 is above 55
    return (of_user.rank(method="first") <= number).to_numpy()


def random_subsets(retrain, config):
    """Trains on random subsets.

    Returns:
        subsets: (masks, n) bool.
        measured: (masks, repeats, 3, num_users), see Retrainings.
        others: (masks, 3, users), retrainings in which only these users, one in OWN_SHARE, have kept their subset.
    """
    dataset = retrain.dataset
    own = np.isin(np.arange(dataset.num_users), dataset.scored[::OWN_SHARE])
    subsets, measured, others = [], [], []
    for k in range(config.fidelity_masks):
        order, other = (generator(config.seed, purpose, k).random(dataset.num_interactions)
                        for purpose in ("subset", "subset of the others"))
        subsets.append(subset(dataset, order, config.fidelity_keep))
        measured.append([retrain(subsets[-1]) for _ in range(config.fidelity_repeats)])
        mixed = subset(dataset, np.where(own[dataset.user], order, other), config.fidelity_keep)
        others.append(retrain(mixed)[:, ::OWN_SHARE])
    return np.array(subsets), np.array(measured), np.array(others)


def predicted_losses(influence, subsets, dataset):
    """(masks, scored users): minus the sum of the influences of each user's kept interactions."""
    return -np.array([np.bincount(dataset.user, influence * mask, dataset.num_users)[dataset.scored] for mask in subsets])


def spearman(a, b):
    """(users,) Spearman's rank correlation over the first axis of two (masks, users) arrays; NaN where one is constant."""
    return pd.DataFrame(a).rank().corrwith(pd.DataFrame(b).rank()).to_numpy()


def mean_interval(values, rng):
    """Mean of (n,) values and the bounds of its 95% bootstrap interval over them."""
    means = [values[rng.integers(0, len(values), len(values))].mean() for _ in range(RESAMPLES)]
    return float(values.mean()), [float(q) for q in np.quantile(means, (0.025, 0.975))]


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


def contrast(influence, retrain, config, rng):
    """What retraining comes to on each user's most influential half, "top", and the least influential one, "bottom".

    loss_gain is the mean over users of the loss after the latter minus that after the former, in nats.
    """
    result, losses, k = {}, {}, config.top_k
    for name, order in (("top", -influence), ("bottom", influence)):
        half = subset(retrain.dataset, order, 0.5)
        runs = np.array([retrain(half) for _ in range(config.fidelity_repeats)])  # (repeats, 3, num_users)
        losses[name] = runs[:, LOSS]
        hr, ndcg = (float(np.mean([metric(ranks, k) for ranks in runs[:, TEST_RANK]]))
                    for metric in (metrics.hit_ratio_of_ranks, metrics.ndcg_of_ranks))
        result[name] = {"loss": float(losses[name].mean()), "rank_loss": float(runs[:, RANK_LOSS].mean()),
                        f"test_hr@{k}": hr, f"test_ndcg@{k}": ndcg}
    gain = (losses["bottom"] - losses["top"]).mean(0)
    result["loss_gain"], result["loss_gain_interval"] = mean_interval(gain, rng)
    return result


def table(report):
    """The result as text."""
    lines = ["solver   LDS of loss [95%]         of rank_loss [95%]     seconds  test HR of top / bottom half"]
    for name, row in report["solvers"].items():
        cells = [f"{row[m]:.3f} [{row[f'{m}_interval'][0]:.3f}, {row[f'{m}_interval'][1]:.3f}]"
                 for m in ("lds_loss", "lds_rank_loss")]
        halves = " / ".join(f"{value:.3f}" for half in ("top", "bottom")
                            for key, value in row["contrast"][half].items() if key.startswith("test_hr"))
        lines.append(f"{name:<8} {cells[0]:<25} {cells[1]:<22} {row['seconds']:>7.1f}  {halves}")
    for name, values in report["ceilings"].items():
        if values["ceiling_own"] is not None:
            lines.append(f"{name}: seeds agree to {values['seed_agreement']:.3f}, with the user's own subset alone to "
                         f"{values['own_agreement']:.3f}: a prediction from it can reach about {values['ceiling_own']:.2f}")
    return "\n".join(lines)


if __name__ == "__main__":
    main(fidelity, "run_fidelity", __doc__, own=OWN)
