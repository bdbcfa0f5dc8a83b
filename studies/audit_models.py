"""The models that the leakage audit looks at: for each strategy its mask, and NCF trained on what that discloses.

Each is kept in a file of its own, the mask with it, so that a mask and a model can never come apart.
"""
import logging

from src.common.errors import InputError
from src.common.files import digest
from src.common.plugins import file_label, label, plugin_files
from src.common.stage import Stage, kept
from src.consent.unwillingness import data_files
from src.game.anchors import load_model, trained_model
from src.game.problem import load_problem
from src.game.strategies import Strategies, find
from src.network import build, score
from src.training.checkpoint import BEST, in_one, with_prefix

from .retraining import Retraining
from .runs import groups_of_runs

logger = logging.getLogger("ifrqe")

FOLDER = "audit"  # under output_path, of the models


class Models:
    """Masks and models of strategies at one budget, made once and kept.

    Args:
        config: the settings; the plain model that strategies look at is trained in the folders that they name.
        folder: where the models are kept.
        needed: whether any strategy looks at the plain model.

    `trained`: names of the strategies whose model was trained here, not found.
    """

    def __init__(self, config, folder, device, needed):
        self.config, self.folder, self.device, self.trained = config, folder, device, []
        remedy = "give the audit the options of that training, remove it, or name another --checkpoint_path"
        self.checkpoints = [trained_model(config, remedy)] if needed else []
        self.files = data_files(config) + plugin_files(config.model)
        self.problem = load_problem(config)
        self.dataset = self.problem.dataset
        self.net = build(self.dataset, config)  # scores all models, so that its graph is compiled once
        self._strategies = self._retraining = None

    def __call__(self, strategy):
        """What a strategy discloses, (n,) bool, and the parameters of the model trained on it, see Network.values.

        Raises:
            InputError: it discloses nothing.
        """
        path = self.folder / f"{file_label(strategy)}.npz"

        def make():
            logger.info("%s: trained on what it discloses, kept in %s", label(strategy), path)
            disclosed, values = self._make(strategy)
            self.trained.append(strategy)
            return {"disclosed": disclosed, **in_one({BEST: values})}
        found = kept(path, self._key(strategy), make, self.config.overwrite)
        return found["disclosed"], with_prefix(found, BEST)

    def _key(self, strategy):
        """All that a mask and its model depend on, as JSON can hold it."""
        files = [*self.files, *plugin_files(strategy)]
        if find(strategy).needs_model:
            files += [*self.checkpoints, *plugin_files(self.config.solver)]
        stage = Stage(FOLDER, __name__, self.config, groups_of_runs(self.config), [], [], self.device)
        return {**stage.depends, "inputs": [digest(path) for path in files], "strategy": label(strategy),
                "wv_budget": self.config.wv_budget}

    def _make(self, strategy):
        config, dataset = self.config, self.dataset
        if self._strategies is None:
            model = load_model(dataset, config) if self.checkpoints else None
            self._strategies = Strategies(self.problem, model, config, self.device)
            self._retraining = Retraining(dataset, config, self.device)
        disclosed = self._strategies(strategy, config.wv_budget).disclosed
        if not disclosed.any():
            raise InputError(f"--wv_budget {config.wv_budget}: is too small for {strategy} to disclose anything; raise it")
        self._retraining(dataset.part(disclosed), config.seed)
        return disclosed, self._retraining.shown.values()

    def scores(self, values, user, item):
        """(n,) float32 logits of a model, given by its parameters, for (n,) users and items."""
        self.net.set_values(values)
        return score(self.net, item[:, None], self.config.eval_batch_size, user)[:, 0]
