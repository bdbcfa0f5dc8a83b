"""The runs of the trade-off study: each strategy decides at each budget, and NCF is trained on what it discloses."""
import logging

import numpy as np
import pandas as pd

from src import metrics
from src.common.errors import InputError
from src.common.files import digest
from src.common.plugins import file_label, label, plugin_files
from src.common.seeds import seed_settings
from src.common.stage import Stage, kept
from src.common.variant import Variant, ratings_path
from src.consent.unwillingness import data_files
from src.constants import RATINGS_FILE, TIMESTAMP
from src.dataset import load_dataset, without_test_items
from src.game.anchors import load_model, trained_model
from src.game.problem import load_problem
from src.game.strategies import IFRQE, NONE, Strategies, find, influence_groups
from src.influence.refit import refitted
from src.network import score
from src.options import EVALUATED, TRAINED
from src.sources.interactions import read_ratings_column, timestamp_seconds
from src.training.checkpoint import read_checkpoint

from .retraining import Retraining

logger = logging.getLogger("ifrqe")

LOSS, POS_LOSS, RANK, PERSONAL = range(4)  # what is kept of a run, each (scored users,), of the test items; the last is RANK
# with refitted rows, not kept with --personal False
MINUTE = 60  # seconds
# The control: everything is disclosed, and the validation item is trained on too. A mask that has looked at that item must
# beat it.
NONE_VALIDATION = "none+validation"


def decides(strategy):
    """The strategy that decides: the control discloses what NONE does."""
    return NONE if strategy == NONE_VALIDATION else strategy


def settings_of_seed(config, seed, needed):
    """The settings of the runs of a seed, whose model must be trained as those of all other seeds are.

    The run's NCF.ckpt serves its own seed if it was trained with just these options; else the study trains a model of its
    own for it, in a folder seed_N like those of the other seeds. `needed`: whether any strategy looks at a model.
    """
    if seed != config.seed:
        return seed_settings(config, seed)
    path = Variant(config).checkpoint
    if not needed or not path.exists():
        return config
    info = read_checkpoint(path, "train anew with train.py --overwrite")[1]
    trained = {**info.get("settings", {}), "dataset": info.get("dataset")}
    wanted = {"dataset": config.dataset, **config.select("split", "model", *TRAINED)}
    other = [f"{key} {trained.get(key)}" for key, value in wanted.items() if trained.get(key) != value]
    if not other and info.get("ratings_sha256") != digest(ratings_path(config)):
        other = [f"another {RATINGS_FILE}"]
    if not other:
        return config
    logger.warning("%s: was trained with other options than the study (%s), which goes by a model of its own for seed %d",
                   path, ", ".join(other), seed)
    return seed_settings(config, seed)


def groups_of_runs(config):
    """Groups of options that the runs depend on, beside strategy and budget."""
    return ("split", "model", *TRAINED, *EVALUATED, *influence_groups(config), "unwillingness", "game")


class SeedMasks:
    """What strategies disclose, for one seed.

    Args:
        config: the settings with this seed; its model is trained in the folders that they name, if it is not there.
        folder: where results are kept.
        needed: whether any strategy looks at a model.
        option: name of the option that has the budgets, for error messages.
    """

    def __init__(self, config, folder, device, needed, option="tradeoff_budgets"):
        self.config, self.folder, self.device, self.option = config, folder, device, option
        inputs = data_files(config) + plugin_files(config.solver, config.model)
        remedy = "give the study the options of that training, remove it, or name another --checkpoint_path"
        inputs += [trained_model(config, remedy)] if needed else []
        stage = Stage("tradeoff", __name__, config, groups_of_runs(config), inputs, [], device)
        self.depends = stage.depends
        self.problem = load_problem(config)
        self.dataset = self.problem.dataset
        model = load_model(self.dataset, config) if needed else None
        self.strategies = Strategies(self.problem, model, config, device)

    def key(self, strategy, budget, **more):
        """All that a result depends on; `more` beside the settings, strategy and budget."""
        files = {str(file): digest(file) for file in plugin_files(strategy)}
        return {**self.depends, "strategy": strategy, "budget": budget, **files, **more}

    def kept(self, name, key, make):
        """See `kept`; `name` is that of the file but for the seed."""
        return kept(self.folder / f"{name}_{self.config.seed}.npz", key, make, self.config.overwrite)

    def decide(self, strategy, budget):
        """Decisions of a strategy at a budget; raises InputError if it discloses nothing."""
        decision = self.strategies(strategy, budget)
        if not decision.disclosed.any():
            raise InputError(f"--{self.option} {budget}: is too small for {strategy} to disclose anything; raise it")
        return decision

    def violation(self, strategy, disclosed):
        """wv of a selection, its share of the total, and the share that training violated on the way to the mask."""
        wv, total = (metrics.willingness_violation(kept, self.problem.unwillingness, self.dataset.num_users)
                     for kept in (disclosed, np.ones(len(disclosed))))
        return wv, wv / total if total else 0.0, 1.0 if find(strategy).needs_model or not total else wv / total


class SeedRuns(SeedMasks):
    """The runs of one seed, see SeedMasks; each moves on the progress bar."""

    def __init__(self, config, folder, device, needed, bar):
        super().__init__(config, folder, device, needed)
        self.bar = bar
        self.retraining = Retraining(self.dataset, config, device)
        self.found = {}  # strategy, budget: what `run` returned
        self.trained = {}  # what is trained on: results of users

    def rows(self, strategies, budgets):
        """A dict for each strategy and budget."""
        pairs = [(strategy, budget) for strategy in strategies for budget in budgets]
        for pair in pairs:
            self.run(*pair)
        return [self._row(strategy, budget, self.run(IFRQE, budget)[1] if IFRQE in strategies else None)
                for strategy, budget in pairs]

    def _row(self, strategy, budget, weight):
        kept, _, values = self.run(strategy, budget)
        wv, wv_share, spent_share = self.violation(decides(strategy), kept)
        k = self.config.top_k
        loss = float(values[LOSS].mean())
        ranks = {"": values[RANK], **({"personal_": values[PERSONAL]} if len(values) > PERSONAL else {})}
        ranking = {f"{rows}{name}@{k}": of_ranks(rank, k) for rows, rank in ranks.items()
                   for name, of_ranks in (("hr", metrics.hit_ratio_of_ranks), ("ndcg", metrics.ndcg_of_ranks))}
        return {"strategy": label(strategy), "budget": budget, "seed": self.config.seed, **ranking, "loss": loss,
                "pos_loss": float(values[POS_LOSS].mean()), "wv": wv, "wv_share": wv_share,
                "spent_share": spent_share, "disclosed_share": float(kept.mean()), "willingness_weight": weight,
                "reward": None if weight is None else -loss - weight * wv}

    def run(self, strategy, budget):
        """What a strategy discloses at a budget, the price at which the game was played, and (3 or 4, num_users) results."""
        if decides(strategy) == NONE:
            budget = 1.0
        if (strategy, budget) not in self.found:
            def make():
                decision = self.decide(decides(strategy), budget)
                price = {} if decision.weight is None else {"weight": decision.weight}
                return {"disclosed": decision.disclosed, **price, "values": self._train(strategy, decision.disclosed)}
            found = self.kept(f"{file_label(strategy)}_{budget:g}", self.key(strategy, budget), make)
            weight = float(found["weight"]) if "weight" in found else None
            self.found[strategy, budget] = found["disclosed"], weight, found["values"]
            self.bar.update()
        return self.found[strategy, budget]

    def _train(self, strategy, disclosed):
        """Results of a training; the same selections, as of all baselines at the full budget, are trained on once."""
        validation = strategy == NONE_VALIDATION
        name = validation, disclosed.tobytes()
        if name not in self.trained:
            part = self._part(disclosed, validation)
            scores = self.retraining(part, self.config.seed)(self.retraining.test)
            results = results_of(scores, self.retraining.counts)
            if self.config.personal != "False":
                results.append(self._personal_ranks(part, validation))
            self.trained[name] = np.stack(results)
        return self.trained[name]

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
        trained = np.bincount(part.user, minlength=dataset.num_users) > 0
        net.set_values(refitted(net, net.values(), without_test_items(own), trained, self.config))
        scores = score(net, self.retraining.test, self.config.eval_batch_size, dataset.scored)
        return metrics.ranks(scores, self.retraining.counts)

    def of_users(self, strategies, budget):
        """DataFrame with a row per user and strategy: how they fare at a budget, and what kind of user they are."""
        dataset, everything = self.dataset, self.run(NONE, budget)[2]
        users = dataset.scored
        kind = {"history": np.bincount(dataset.user, minlength=dataset.num_users)[users],
                "unwillingness": np.bincount(dataset.user, self.problem.unwillingness, dataset.num_users)[users]}
        if (seconds := timestamp_seconds(self.config)) is not None:
            held_out = read_ratings_column(self.config, TIMESTAMP)[dataset.held_out[users]]
            kind["gap"] = (held_out[:, -1] - held_out[:, -2]) * (seconds / MINUTE)
        tables = []
        for strategy in strategies:
            if strategy != NONE:
                values = self.run(strategy, budget)[2]
                hit, before = (v[RANK] < self.config.top_k for v in (values, everything))
                tables.append(pd.DataFrame({
                    "strategy": label(strategy), "budget": budget, "user": users, **kind,
                    "loss_change": values[LOSS] - everything[LOSS], "hit_change": hit.astype(float) - before}))
        return pd.concat(tables) if tables else pd.DataFrame()


def results_of(scores, counts):
    """LOSS, POS_LOSS and RANK of the scores of candidates, each (scored users,)."""
    return [metrics.mean_loss(scores, counts), metrics.cross_entropy(scores)[:, 0], metrics.ranks(scores, counts)]
