"""Personal rows: the shared parameters of a model, and each user's own row refitted on all that they let serve themselves.

An interaction that trains nothing shared may still serve its own user: their row is refitted on their whole history but what
they vetoed, see influence/rows.py. Refitted rows live in memory only; no file holds them.
"""
from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from .. import metrics
from ..candidates import evaluation_candidates
from ..common.terminal import logger
from ..common.variant import Variant
from ..config import Config
from ..dataset import Dataset, without_test_items
from ..game.decisions import trained_on
from ..influence.rows import Rows
from ..network import Network, build, score
from ..training.checkpoint import load_checkpoint
from .compare import PERSONAL, TRAINED

CLEARLY = 2  # standard deviations that a sum of as many fair coins has


@dataclass
class Serving:
    """A model as it serves its users.

    net: Network, with the rows that serve; info: dict of what was saved with its checkpoint.
    personal: whether these rows are refitted.
    other: its parameters with the rows that do not serve, see Network.values; None if nothing was refitted.
    """
    net: Network
    info: dict
    personal: bool = False
    other: dict | None = None

    def refits(self, known: Dataset, config: Config) -> Rows:
        """Rows at the parameters as they were trained, on `known`, with as many negatives as the model is used to."""
        rows = Rows(self.net, known, config.replace(num_neg=self.info.get("settings", {}).get("num_neg", config.num_neg)))
        return rows.at(self.other) if self.personal else rows


def load_serving(dataset: Dataset, variant: Variant, personal: bool | None = None) -> Serving:
    """The model of a Variant with trained user rows or, if --personal is auto, with those that validation prefers.

    dataset: the original; its test items are not looked at by what refits or decides.
    personal: whether refitted rows serve, whatever --personal says; None to go by it.
    Raises InputError: the checkpoint or the decisions are missing or unfit.
    """
    config = variant.config
    net, info = load_checkpoint(variant.checkpoint, dataset, variant)
    serving = Serving(net, info)
    if not (config.personal == "auto" if personal is None else personal):
        return serving
    start, trained_rows = time.perf_counter(), net.values()
    own = without_test_items(dataset)  # the whole history of all users; nothing that is vetoed or withdrawn is in it
    rows = serving.refits(trained_on(dataset, variant), config)
    personal_rows = rows.refitted(own, rows.trained)
    logger.info("%s: personal rows of %s users from %s interactions in %.1f s, kept in memory only", variant.model,
                f"{len(dataset.all_user_ids):,}", f"{own.all_interactions:,}", time.perf_counter() - start)
    personal = personal or prefers_personal(trained_rows, personal_rows, dataset, variant)
    net.set_values(personal_rows if personal else trained_rows)
    return Serving(net, info, personal, trained_rows if personal else personal_rows)


def prefers_personal(trained_rows: dict, personal_rows: dict, dataset: Dataset, variant: Variant) -> bool:
    """Whether parameters with refitted rows rank the validation items of the original Dataset clearly better; logs it.

    Clearly: of the users whose validation item is a hit with one kind of rows only, so many more are with refitted ones that
    chance alone would hardly do it. A difference within the noise is no reason to leave what the model was evaluated with.
    """
    config, net = variant.config, build(dataset, variant.config)
    candidates = evaluation_candidates(dataset, "validation", config)
    hits = []
    for values in (trained_rows, personal_rows):
        net.set_values(values)
        rank = metrics.ranks(score(net, candidates, config.eval_batch_size, dataset.scored))
        hits.append(dataset.of_scored(rank) < config.top_k)
    before, after = hits
    gained, lost = int((after & ~before).sum()), int((before & ~after).sum())
    personal = bool(gained - lost > CLEARLY * np.sqrt(gained + lost))
    logger.info("--personal auto: HR@%d of the validation items %.4f with personal rows, %.4f with trained ones; %d users "
                "gain, %d lose: %s serves its users with %s rows", config.top_k, after.mean(), before.mean(), gained, lost,
                variant.model, PERSONAL if personal else TRAINED)
    return personal
