"""Anchors: selection vectors on which a model was trained, and the parameters that influences are computed from there.

The first anchor is everything disclosed: the plain model, in `influence_models` copies with different seeds. IFRQE++ adds
others, each trained on what its selection vector discloses, from the plain model on or from scratch.
See docs/maths.md, section 6.
"""
from __future__ import annotations

import logging
from itertools import islice
from pathlib import Path

import numpy as np

from ..common.errors import InputError
from ..common.seeds import seed_settings
from ..common.variant import Variant
from ..config import TRAINED, Config, options_of
from ..dataset import Dataset
from ..influence.anchor import Anchor
from ..network import build
from ..training.checkpoint import load_anchors, read_checkpoint
from ..training.train import train
from ..training.trainer import Trainer, train_on

logger = logging.getLogger("ifrqe")

_REMEDY = "give the options of that training, train anew with these, or add --other_model to go by it all the same"
_REMOVE = "remove it, and it is trained with the options that are given then"


def trained_models(config: Config, remedy: str = _REMEDY) -> list[Path]:
    """Paths of the checkpoints that influences come from, each trained if it is not there.

    With `other_model` those that have to be trained take the options of the first.

    Raises:
        InputError: one was trained otherwise than these settings say, see load_models; `remedy` ends the line on the first.
    """
    first = _trained(config, remedy)
    if config.other_model:
        trained = _settings_of(first)
        config = config.replace(**{key: trained[key] for key in options_of(*TRAINED) if key in trained})
    return [first] + [_trained(seed_settings(config, config.seed + k), _REMOVE) for k in range(1, config.influence_models)]


def _trained(config, remedy):
    plain = Variant(config)
    checkpoint = plain.checkpoint
    if not checkpoint.exists():
        logger.info("%s: not there yet, so it is trained first", checkpoint)
        train(plain)
    elif not config.other_model and (trained := _settings_of(checkpoint)):
        _check(checkpoint, trained, config.select(*TRAINED), remedy)
    return checkpoint


def _settings_of(checkpoint):
    """The options that a model was trained with, a dict; {} if an early version wrote it, which load_anchors refuses."""
    return read_checkpoint(checkpoint, "train anew with train.py --overwrite")[1].get("settings", {})


def _check(checkpoint, trained, wanted, remedy):
    """Raises InputError, with all that differs, if a model was not trained with the options `wanted`."""
    if other := [key for key, value in wanted.items() if trained.get(key) != value]:
        was, needed = (", ".join(f"{key}={options.get(key)}" for key in other) for options in (trained, wanted))
        raise InputError(f"{checkpoint}: was trained with {was}, but {needed} is needed here; {remedy}")


def load_models(checkpoints: list[Path], dataset: Dataset, config: Config) -> list[tuple[dict, dict]]:
    """The anchor of everything disclosed, for each model.

    Returns:
        A list with, for each model, a dict of epoch to parameters, and a dict of what its checkpoint says.

    Raises:
        InputError: a checkpoint does not fit, or was trained otherwise than these settings say, its seed included. With
            `other_model` the first may have been trained in any way, the others like it but for the seed.
    """
    models, first = [], None
    for k, path in enumerate(checkpoints):
        values, info = load_anchors(path, dataset, Variant(config))
        first = first or info["settings"]
        own = {**config.select(*TRAINED), "seed": config.seed + k}
        wanted = {**first, "seed": first["seed"] + k} if config.other_model else own
        _check(path, info["settings"], {**wanted, "anchor_epochs": config.anchor_epochs}, _REMOVE if k else _REMEDY)
        other = ", ".join(f"{key} {value}" for key, value in info["settings"].items() if own.get(key, value) != value)
        if other:
            logger.warning("%s: is gone by though it was trained with other options: %s", path, other)
        models.append((values, info))
    return models


def parameter_sets(models: list) -> list[dict]:
    """All sets of parameters of what load_models returned."""
    return [values for sets, _ in models for values in sets.values()]


class Retrained:
    """The models of an anchor that withholds something; each is trained when a set of its parameters is asked for.

    Args:
        models: see load_models; each is trained anew with its own seed and training options.
        dataset: Dataset.
        disclosed: (n,) bool, the anchor.
        config: anchor_warm_epochs: 0 trains from scratch up to the last of the model's own anchor epochs, and takes the
            same epochs; else training starts from its anchor and goes on for so many epochs, all of which are taken.
        device: name of the device in use.
    """

    def __init__(self, models: list, dataset: Dataset, disclosed: np.ndarray, config: Config, device: str):
        self.models, self.dataset, self.disclosed, self.config, self.device = models, dataset, disclosed, config, device
        self.trained = {}  # number of a model: its sets of parameters

    def anchor(self) -> Anchor:
        """The Anchor, whose sets of parameters are functions."""
        return Anchor([lambda k=k, j=j: self._train(k)[j] for k, (sets, _) in enumerate(self.models)
                       for j in range(self.config.anchor_warm_epochs or len(sets))], self.disclosed)

    def _train(self, k):
        if k not in self.trained:
            sets, info = self.models[k]
            config = self.config.replace(**{key: info["settings"][key] for key in options_of(*TRAINED)})
            part = self.dataset.part(self.disclosed)
            net, kept, warm = build(part, config), list(sets), self.config.anchor_warm_epochs
            if warm:
                net.set_values(sets[kept[-1]])
                kept = range(1, 1 + warm)
                config = config.replace(train_epochs=warm, warmup_epochs=min(config.warmup_epochs, warm))
            # the rates are those of all epochs, though no more are trained than are kept
            trained = islice(train_on(Trainer(net, part, config, self.device)), kept[-1])
            self.trained = {k: [epoch.values for epoch in trained if epoch.number in kept]}  # asked for model by model
        return self.trained[k]
