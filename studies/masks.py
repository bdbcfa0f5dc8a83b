"""What strategies disclose at one seed, and what the base model comes to when it is trained on that."""
import functools
import hashlib

import numpy as np

from src import metrics
from src.common.errors import InputError
from src.common.figures import BLUE, GREY, ORANGE
from src.common.plugins import plugin_files
from src.common.seeds import seed_settings
from src.consent.unwillingness import data_files
from src.dataset import load_dataset, without_test_items
from src.evaluation.evaluate import ranks_among_untouched
from src.game.anchors import load_model, trained_model
from src.game.problem import load_problem
from src.game.strategies import NONE, Strategies, find, influence_groups
from src.influence.rows import Rows
from src.network import build, score, score_all
from src.options import EVALUATED, TRAINED

from .grid import Retraining, grid

# Of a training, each (scored users,), of the test items: loss, rank among the candidates, among all untouched items, among
# the candidates with refitted rows; these are not there with --personal False.
LOSS, RANK, FULL, PERSONAL = range(4)
# The control: everything is disclosed, and the validation item is trained on too. A mask that has looked at that item must
# beat it.
NONE_VALIDATION = "none+validation"
REMEDY = "give the study the options of that training, remove it, or name another --checkpoint_path"
# by strategy: color, marker, line style
STYLES = {"none": (GREY, None, "--"), "none+validation": (GREY, None, ":"), "random": ("#a88500", "v", "-"),
          "threshold": ("#4e9a06", "s", "-"), "recent": ("#9a5fc0", "^", "-"), "similarity": ("#dd3c3c", "D", "-"),
          "ifrqe": (BLUE, "o", "-"), "ifrqe++": (ORANGE, "P", "-"), "ask-first": ("#d63384", "*", "-")}
OTHER_STYLE = "#1f9e9e", "X", "-"


def decides(strategy):
    """The strategy that decides: the control discloses what NONE does."""
    return NONE if strategy == NONE_VALIDATION else strategy


def masks_of_seed(study, seed, strategies):
    """The Masks of one seed, for these strategies; the model that they look at is the study's own, in the folders seed_N."""
    config = seed_settings(study.config, seed).replace(output_path=str(study.folder / f"seed_{seed}"))
    return Masks(study, config, any(find(decides(name)).needs_model for name in strategies))


def quality(rank, k, prefix="", base=None):
    """HR@k and NDCG@k of test items, with standard errors over users.

    Args:
        rank: (users,) 0-based ranks.
        k: length of the list.
        prefix: before the names of the metrics: "full_" where all items are ranked.
        base: ranks that they are compared with, of the same users.

    Returns:
        By name, as in hr@10, the mean; as in hr@10_se its standard error; with `base` the mean and standard error of what
        users gain, as in gain_hr@10 and gain_hr@10_se.
    """
    found = {}
    for name, gains in ((f"{prefix}hr@{k}", lambda rank: (rank < k).astype(float)),
                        (f"{prefix}ndcg@{k}", lambda rank: metrics.gains_of_ranks(rank, k))):
        values = {name: gains(rank), **({} if base is None else {f"gain_{name}": gains(rank) - gains(base)})}
        for key, each in values.items():
            found |= {key: each.mean(), f"{key}_se": each.std() / np.sqrt(len(each))}
    return found


def name_of(mask):
    """A name for an (n,) bool mask: the beginning of its digest."""
    return hashlib.sha256(np.packbits(mask)).hexdigest()[:16]


class Masks:
    """What strategies disclose, and what the base model comes to when it is trained on that; all kept.

    Args:
        study: Study.
        config: the settings with one seed; the plain model is trained in the folders that they name, if it is not there.
        needed: whether any strategy looks at that model.
        folder: of what is kept, below that of the study.
    """

    def __init__(self, study, config, needed, folder="."):
        self.study, self.config, self.folder = study, config, folder
        files = data_files(config) + plugin_files(config.model)
        self.problem = load_problem(config)
        self.dataset = self.problem.dataset
        of_data = {"rows": self.dataset.rows_sha256()}
        self.trainings = study.depends(("split", "model", *TRAINED, *EVALUATED), files, config, **of_data)
        files += plugin_files(config.solver) + ([trained_model(config, REMEDY)] if needed else [])
        groups = ("split", "model", *TRAINED, *EVALUATED, *influence_groups(config), "unwillingness", "game")
        self.decisions = study.depends(groups, files, config, **of_data)
        model = load_model(self.dataset, config) if needed else None
        self.strategies = Strategies(self.problem, model, config, study.device)

    def decided(self, cells, option=None):
        """What strategies disclose.

        Args:
            cells: list of (strategy, budget) or (strategy, budget, price); at a price the game is played at that.
            option: name of the one that has the budgets, for the error.

        Returns:
            DataFrame with strategy, budget and seed; disclosed, (n,) bool; wv, its share of the total and the share that
            training violated on the way to the mask; the share that is disclosed; and weight, the price of a game.

        Raises:
            InputError: with `option`, something discloses nothing.
        """
        cells = [dict(zip(("strategy", "budget", "price"), cell), seed=self.config.seed) for cell in cells]
        found = grid(self.study, cells, self._decide, self.decisions, f"{self.folder}/masks")
        found = found.drop(columns="price", errors="ignore")
        for row in found[~found.disclosed_share.astype(bool)].itertuples() if option else ():
            raise InputError(f"--{option} {row.budget}: is too small for {row.strategy} to disclose anything; raise it")
        return found

    def _decide(self, strategy, budget, seed, price=None):
        decision = self.strategies(decides(strategy), budget, price)
        wv, total = (metrics.willingness_violation(kept, self.problem.unwillingness, self.dataset.num_users)
                     for kept in (decision.disclosed, np.ones(len(decision.disclosed))))
        share = wv / total if total else 0.0
        return {"disclosed": decision.disclosed, "wv": wv, "wv_share": share,
                "spent_share": 1.0 if find(decides(strategy)).needs_model or not total else share,
                "disclosed_share": float(decision.disclosed.mean()),
                **({} if decision.weight is None else {"weight": decision.weight})}

    def trained(self, decided):
        """For each row of what `decided` returns the (3 or 4, scored users) results; equal masks are trained on once."""
        masks = {name_of(mask): mask for mask in decided.disclosed}
        cells = [{"seed": self.config.seed, "mask": name_of(row.disclosed), "validation": row.strategy == NONE_VALIDATION}
                 for row in decided.itertuples()]
        different = list({tuple(cell.values()): cell for cell in cells}.values())
        found = grid(self.study, different, lambda seed, mask, validation: {"values": self._train(masks[mask], validation)},
                     self.trainings, f"{self.folder}/trainings")
        values = dict(zip(zip(found["mask"], found["validation"]), found["values"]))
        return [values[cell["mask"], cell["validation"]] for cell in cells]

    @functools.cached_property
    def retraining(self):
        return Retraining(self.dataset, self.config, self.study.device)

    def _train(self, disclosed, validation):
        retraining, dataset, part = self.retraining, self.dataset, self._part(disclosed, validation)
        if disclosed.any():
            scored = retraining(part, self.config.seed)
        else:  # the network stays as it was drawn
            scored = retraining.of(build(dataset, self.config).values())
        scores = scored(retraining.test)
        everything = score_all(retraining.shown, dataset.scored, dataset.num_items, self.config.eval_batch_size)
        results = [metrics.mean_loss(scores, retraining.counts), metrics.ranks(scores, retraining.counts),
                   ranks_among_untouched(dataset, dataset.test, everything)]
        if self.config.personal != "False":
            results.append(self._personal_ranks(part, validation))
        return np.stack(results)

    def _part(self, disclosed, validation):
        """The Dataset that is trained on where (n,) bool `disclosed` is disclosed, perhaps with the validation items."""
        if not validation:
            return self.dataset.part(disclosed)
        whole = load_dataset(self.config.replace(holdout=1))
        return whole.part(~np.isin(whole.rows, self.dataset.rows[~disclosed]))

    def _personal_ranks(self, part, validation):
        """(scored users,) ranks with rows refitted on all histories, after a training on `part`."""
        dataset, net = self.dataset, self.retraining.shown
        own = self._part(np.ones(dataset.num_interactions, bool), True) if validation else dataset
        rows = Rows(net, part, self.config)
        net.set_values(rows.refitted(without_test_items(own), rows.trained))
        scores = score(net, self.retraining.test, self.config.eval_batch_size, dataset.scored)
        return metrics.ranks(scores, self.retraining.counts)
