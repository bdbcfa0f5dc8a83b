"""The influence stage: influences, the game, disclosure.csv and the masked dataset. See docs/maths.md, section 7."""
from __future__ import annotations

import logging
import time
from pathlib import Path

import numpy as np
import pandas as pd

from ..common.errors import InputError
from ..common.figures import as_written, disclosure_plot, drawn
from ..common.files import atomic_write, digest, read_json, write_csv, write_json
from ..common.machine import peak_rss_mb
from ..common.plugins import label, plugin_files
from ..common.stage import Stage
from ..common.tables import copy_rows
from ..common.variant import dataset_folder, is_masked
from ..config import MASK, TRAINED, Config
from ..constants import (
    DATASET_FILE,
    DISCLOSURE_FILE,
    DISCLOSURE_PLOT,
    GENRES,
    HOLDOUT,
    ITEM,
    MASK_SETTINGS,
    MOVIES_FILE,
    PREPROCESS_FILE,
    RATINGS_FILE,
    TEXT_IDS,
    TITLE,
)
from ..dataset import UNFINISHED, Dataset
from ..device_adapter import set_device
from ..metrics import willingness_violation
from ..sources.catalogue import text_ids
from ..sources.unwillingness import data_files, unwillingness_source
from .anchors import load_models, parameter_sets, trained_models
from .problem import Kept, load_problem
from .protect import needed
from .strategies import ASK_FIRST, NONE_VALIDATION, PLAYED, Strategies, influence_groups, needs_model, vetoed_validations

logger = logging.getLogger("ifrqe")


def preprocess(config: Config) -> None:
    """Decides what each user discloses; writes disclosure.csv, the masked dataset and preprocess.json.

    Trains the plain NCF first if there is no checkpoint of it.

    Raises:
        InputError: the dataset, the checkpoint or the unwillingness is missing or unfit.
    """
    if config.holdout < 2:
        raise InputError(f"--holdout {config.holdout}: leaves no validation item for the influences; use 2 here")
    inputs = data_files(config) + plugin_files(config.model, config.strategy, config.solver)
    checkpoints = trained_models(config) if needs_model(config.strategy) else []
    output, target = Path(config.output_path), dataset_folder(config, masked=True)
    written = [output / DISCLOSURE_FILE, output / PREPROCESS_FILE,
               *(target / name for name in (RATINGS_FILE, MOVIES_FILE, DATASET_FILE))]
    device = set_device(config)
    trains = TRAINED if config.strategy == ASK_FIRST else ()  # else their models say how they were trained
    stage = Stage("preprocess", config, ("split", "model", *trains, *influence_groups(config), *MASK, "needs"),
                  inputs + checkpoints,
                  written, device)
    if stage.is_done():
        return
    problem = load_problem(config)
    dataset = problem.dataset
    models = load_models(checkpoints, dataset, config)
    logger.info("mask of %s (%s): %s interactions of %s users, strategy %s%s", dataset.name, device,
                f"{dataset.num_interactions:,}", f"{dataset.num_users:,}", config.strategy,
                f", solver {config.solver}, {len(models)} model{'s' if len(models) > 1 else ''} at "
                f"{len(parameter_sets(models))} epochs in all" if models and config.strategy in PLAYED else "")
    strategies = Strategies(problem, models, config, device, Kept(output, stage.basis))
    start = time.perf_counter()
    decisions = strategies(config.strategy, config.wv_budget, config.willingness_weight)
    if config.needs and decisions.expected is not None:
        _find_needs(strategies, decisions)
    decided = time.perf_counter()
    decisions.write(output / DISCLOSURE_FILE, dataset)
    control = config.strategy == NONE_VALIDATION
    write_masked_dataset(config, dataset, decisions.disclosed, {
        "disclosure_sha256": digest(output / DISCLOSURE_FILE), MASK_SETTINGS: config.select("influence", *MASK),
        **({HOLDOUT: 1} if control else {})}, vetoed_validations(dataset, config) if control else ())
    end = time.perf_counter()
    record = _record(config, problem, models, decisions,
                     {**strategies.seconds, "mask": end - decided, "total": end - start})
    write_json(output / PREPROCESS_FILE, record)
    stage.finish()
    strategies.forget()
    drawn(disclosure_plot, output / DISCLOSURE_PLOT, decisions,
          f"{dataset.name}: what is disclosed ({as_written(label(config.strategy))})")
    _report(decisions, record, config.veto)
    logger.info("masked dataset written to %s, decisions to %s", target, output / DISCLOSURE_FILE)


def _find_needs(strategies, decisions):
    """Adds to Decisions the fewest interactions that serve each user as well as all that they allow."""
    start, allowed = time.perf_counter(), strategies.problem.allowed
    decisions.needed = np.zeros(len(allowed), bool)
    decisions.needed[allowed] = needed(strategies.expected_loss(), decisions.expected[allowed])
    strategies.seconds["needs"] = time.perf_counter() - start
    user = strategies.problem.dataset.user
    share = np.bincount(user, decisions.needed)[np.unique(user)] / np.bincount(user)[np.unique(user)]
    logger.info("needed to be served as well as with everything: %.1f%% of the interactions of half the users, or fewer",
                100 * float(np.median(share)))


def _record(config, problem, models, decisions, seconds):
    """What preprocess.json says."""
    dataset, disclosed = problem.dataset, decisions.disclosed
    played = config.strategy in PLAYED and decisions.expected is not None
    wv, total_wv = (willingness_violation(kept, problem.unwillingness, dataset.num_users)
                    for kept in (disclosed, np.ones(len(disclosed))))
    trained = models[0][1]["settings"] if models else None
    if config.strategy == ASK_FIRST:
        trained = config.select("split", "model", *TRAINED)
    game = {}
    if played:
        game = {"solver": config.solver, "damping": config.damping, "influence_models": max(1, len(models)),
                "parameter_sets": len(parameter_sets(models)),
                "anchors": len(decisions.record.get("anchor_wv", [wv])),
                **{key: getattr(config, key) for key in ("prior", "rounds", "game_rate", "count_others")},
                **decisions.record}
    return {"dataset": config.dataset, "seed": config.seed, "num_users": dataset.num_users, "num_items": dataset.num_items,
            "num_interactions": dataset.num_interactions, "strategy": config.strategy,
            "unwillingness": unwillingness_source(config), "willingness_file": Path(config.willingness_file).name or None,
            "model_settings": trained, **game, "seconds": seconds, "wv": wv, "total_wv": total_wv,
            "spent_wv": total_wv if needs_model(config.strategy) else wv, "willingness_weight": decisions.weight,
            **({} if config.budget_scope == "all" else {"budget_scope": config.budget_scope}),
            "wv_budget": config.wv_budget if config.willingness_weight is None or not played else None,
            "vetoed": int((~problem.allowed).sum()), "disclosed_share": float(disclosed.mean()),
            "peak_rss_mb": peak_rss_mb()}


def _report(decisions, record, veto):
    """Says in the log what came of it."""
    disclosed, wv, total_wv, weight = decisions.disclosed, record["wv"], record["total_wv"], decisions.weight
    logger.info("disclosed: %s of %s interactions (%.1f%%), wv %.4f of %.4f (%.1f%%)%s; trained on to find that out: "
                "%.4f", f"{disclosed.sum():,}", f"{len(disclosed):,}", 100 * disclosed.mean(), wv, total_wv,
                100 * wv / total_wv if total_wv else 0, "" if weight is None else f" at willingness_weight {weight:.6g}",
                record["spent_wv"])
    if decisions.influence is not None:
        helpful = decisions.influence > 0
        logger.info("helpful to the validation item (influence > 0): %.1f%% of the interactions; of these %.1f%% are "
                    "disclosed, of the harmful %.1f%%", 100 * helpful.mean(), 100 * _mean(disclosed[helpful]),
                    100 * _mean(disclosed[~helpful]))
    if veto:
        logger.info("vetoed: %s interactions, none of them disclosed", f"{record['vetoed']:,}")


def write_masked_dataset(config: Config, dataset: Dataset, disclosed: np.ndarray, record: dict,
                         left_out: np.ndarray = ()) -> None:
    """Writes the masked twin of a dataset: its disclosed training rows and its held-out rows, in their order.

    No sampled negative is written. The catalogue stays whole, so that the masked model knows the same items; to a trainer
    a withheld item is one that the user has not touched.

    Args:
        config: data_path and dataset.
        dataset: Dataset of the source.
        disclosed: (n,) bool, in the order of dataset.user.
        record: dict, what its dataset.json is to say beside that of the source.
        left_out: held-out rows that are not written: where validation items are trained on, the vetoed ones.

    Raises:
        InputError: another dataset lies there.
    """
    source, target = dataset_folder(config), dataset_folder(config, masked=True)
    start = {"dataset": target.name, "masked_from": source.name}
    if (target / RATINGS_FILE).exists() and not is_masked(target):
        raise InputError(f"{target}: was not written by preprocess.py, which would replace it; move it to another place")
    write_json(target / DATASET_FILE, {**start, UNFINISHED: True})  # what is there belongs together only after the last file
    rows = np.sort(np.concatenate([dataset.rows[disclosed], np.setdiff1d(dataset.held_out, left_out)]))
    with atomic_write(target / RATINGS_FILE) as temporary:
        copy_rows(source / RATINGS_FILE, rows, temporary)
    with atomic_write(target / MOVIES_FILE) as temporary:
        if (source / MOVIES_FILE).exists():
            temporary.write_bytes((source / MOVIES_FILE).read_bytes())
        else:  # the items that occur: in the masked twin some may occur no more
            write_csv(pd.DataFrame({ITEM: dataset.item_ids, TITLE: "", GENRES: ""}), temporary)
    made = read_json(source / DATASET_FILE, "make the dataset anew") if (source / DATASET_FILE).exists() else {}
    write_json(target / DATASET_FILE, {**made, **start, **record, "num_ratings": len(rows),
                                       TEXT_IDS: text_ids(dataset.user_ids, dataset.item_ids)})


def _mean(flags):
    return float(flags.mean()) if len(flags) else 0.0
