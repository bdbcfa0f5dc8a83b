"""Anchors: selection vectors on which a model was trained, and the parameters that influences are computed from there.

The first anchor is everything disclosed: the plain model. IFRQE++ adds others, each trained on what its selection vector
discloses, from the plain model on or from scratch. See docs/maths.md, section 6.
"""
from itertools import islice
from pathlib import Path

import numpy as np

from ..common.errors import InputError, logger
from ..common.variant import Variant
from ..config import Config
from ..dataset import LEAST, Dataset
from ..device_adapter import set_device
from ..network import build
from ..options import TRAINED, options_of
from ..training.checkpoint import DIGEST, check_checkpoint, load_anchors, read_checkpoint
from ..training.train import train, train_in_memory
from ..training.trainer import Trainer, train_on


def trained_model(config: Config, remedy: str = "give the options of that training, or train anew with these") -> Path:
    """Path of the checkpoint that influences come from, which is trained if it is not there.

    Raises InputError: it was trained otherwise than these settings say, its seed included; `remedy` ends the line.
    """
    plain = Variant(config)
    path = plain.checkpoint
    if path.exists():
        info = read_checkpoint(path, "train anew with train.py --overwrite")[1]
        check_checkpoint(path, info, config.select(*TRAINED), remedy)
    else:
        logger.info("%s: not there yet, so it is trained first", path)
        train(plain)
    return path


def load_model(dataset: Dataset, config: Config) -> tuple[dict, dict]:
    """The anchor of everything disclosed: see load_anchors, of the plain model.

    Where nothing is held out that model has seen what stands in for validation items: another is trained in memory without.
    """
    variant = Variant(config)
    if dataset.validation is not None:
        return load_anchors(variant.checkpoint, dataset, variant)
    part = dataset.deciding()
    if not len(part.scored):
        raise InputError(f"--strategy {config.strategy}: no user of {dataset.name} has {LEAST} interactions, so "
                         "that nothing can be said of what they are worth; give --strategy threshold")
    logger.info("%s is trained without the last interaction of each user, to decide by", config.plain_model)
    info = {"settings": config.select("split", "model", *TRAINED), DIGEST: None}
    return train_in_memory(config, part, set_device(config))[1], info


def retrained(model: tuple[dict, dict], dataset: Dataset, disclosed: np.ndarray, config: Config, device: str) -> list[dict]:
    """The sets of parameters of a model (see load_model) that is trained anew, as it was, on what an anchor discloses.

    disclosed: (n,) bool, the anchor.
    config: anchor_warm_epochs: 0 trains from scratch up to the last of the model's own anchor epochs, and takes the same
        epochs; else training starts from its anchor and goes on for so many epochs, all of which are taken.
    """
    (sets, info), part = model, dataset.part(disclosed & ~dataset.yardstick)
    config = config.replace(**{key: info["settings"][key] for key in options_of(*TRAINED)})
    net, kept, warm = build(part, config), list(sets), config.anchor_warm_epochs
    if warm:
        net.set_values(sets[kept[-1]])
        kept = range(1, 1 + warm)
        config = config.replace(train_epochs=warm, warmup_epochs=min(config.warmup_epochs, warm))
    # the rates are those of all epochs, though no more are trained than are kept
    trained = islice(train_on(Trainer(net, part, config, device)), kept[-1])
    return [epoch.values for epoch in trained if epoch.number in kept]
