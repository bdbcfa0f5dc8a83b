"""The influence stage: influences, the game, disclosure.csv and the masked dataset."""
import logging
import re
import resource
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from .constants import (
    DATASET_FILE,
    DISCLOSED,
    DISCLOSURE_FILE,
    DISCLOSURE_PLOT,
    GAME_KEYS,
    INFLUENCE,
    INFLUENCE_KEYS,
    ITEM,
    MODEL_KEYS,
    MOVIES_FILE,
    PARTIAL_FILE,
    PLAIN_MODEL,
    PREPROCESS_FILE,
    RATINGS_FILE,
    UNWILLINGNESS,
    USER,
    checkpoint_file,
)
from .dataset import dataset_files, dataset_folder, load_dataset
from .device_adapter import set_device
from .disclosure import choose_disclosure, load_unwillingness, unwillingness_file
from .errors import InputError
from .influence_function import influences
from .metrics import willingness_violation
from .ncf import check_checkpoint, load_anchors
from .plots import disclosure_plot
from .repeats import seed_settings
from .stage import PartialResults, Stage, digest, read_json, whole_file, write_json
from .training import train

logger = logging.getLogger("ifrqe")


def preprocess(config):
    """Decides what each user discloses; writes disclosure.csv, the masked dataset and preprocess.json.

    Trains the plain NCF first if there is no checkpoint of it.

    Raises:
        InputError: the dataset, the checkpoint or the unwillingness is missing or unfit.
    """
    if config.holdout != 2:
        raise InputError(f"--holdout {config.holdout}: leaves no validation item for the influences; use 2 here")
    config = config.replace(masked=False)
    inputs = dataset_files(config)
    from_file = unwillingness_file(config)
    if from_file is not None:
        inputs.append(from_file)
    checkpoints = trained_models(config)
    source, output = dataset_folder(config), Path(config.output_path)
    target = dataset_folder(config, masked=True)
    written = [output / DISCLOSURE_FILE, output / PREPROCESS_FILE, target / RATINGS_FILE, target / DATASET_FILE]
    if (source / MOVIES_FILE).exists():
        written.append(target / MOVIES_FILE)
    stage = Stage("preprocess", config, MODEL_KEYS + influence_keys(config) + GAME_KEYS, inputs + checkpoints,
                  written)
    if stage.is_done():
        return
    device = set_device(config)
    dataset = load_dataset(config)
    unwillingness = load_unwillingness(dataset, config)
    anchors = all_anchors(checkpoints, dataset, config)
    logger.info("influence and mask of %s (%s): %s interactions of %s users, solver %s, %d model%s at %d epochs in all",
                dataset.name, device, f"{dataset.num_interactions:,}", f"{dataset.num_users:,}", config.solver,
                len(checkpoints), "s" * (len(checkpoints) > 1), len(anchors))
    partial = PartialResults(output / PARTIAL_FILE, {**stage.depends, "settings": config.select(MODEL_KEYS + INFLUENCE_KEYS),
                                                     "chunk_size": config.chunk_size}, config.overwrite)
    if partial.resumed:
        logger.info("%s: going on with the influences that a run before this one has left", partial.path)

    clock = [time.perf_counter()]
    influence, report = influences(anchors, dataset, config, partial)
    clock.append(time.perf_counter())
    disclosed, weight = choose_disclosure(influence, unwillingness, config)
    clock.append(time.perf_counter())
    write_disclosure(output / DISCLOSURE_FILE, dataset, influence, unwillingness, disclosed)
    write_masked_dataset(source, target, dataset, disclosed, digest(output / DISCLOSURE_FILE))
    clock.append(time.perf_counter())
    spent = np.diff(clock)

    total_wv = willingness_violation(np.ones(len(disclosed)), unwillingness, dataset.num_users)
    wv = willingness_violation(disclosed, unwillingness, dataset.num_users)
    write_json(output / PREPROCESS_FILE, {
        "dataset": config.dataset, "seed": config.seed, "num_users": dataset.num_users, "num_items": dataset.num_items,
        "num_interactions": dataset.num_interactions, "solver": config.solver, "damping": config.damping,
        "influence_models": len(checkpoints), "anchors": len(anchors), **report,
        "seconds": {**dict(zip(("influence", "game", "mask"), spent)), "total": spent.sum()}, "wv": wv,
        "total_wv": total_wv, "willingness_weight": weight,
        "wv_budget": config.wv_budget if config.willingness_weight is None else None,
        "disclosed_share": float(disclosed.mean()), "peak_rss_mb": peak_rss_mb()})
    disclosure_plot(output / DISCLOSURE_PLOT, influence, unwillingness, disclosed, weight,
                    f"{dataset.name}: what is disclosed")
    stage.finish()
    partial.remove()
    logger.info("disclosed: %s of %s interactions (%.1f%%), wv %.4f of %.4f (%.1f%%) at willingness_weight %.6g",
                f"{disclosed.sum():,}", f"{len(disclosed):,}", 100 * disclosed.mean(), wv, total_wv,
                100 * wv / total_wv if total_wv else 0, weight)
    logger.info("helpful (influence > 0): %.1f%% of the interactions; of these %.1f%% are disclosed, of the harmful %.1f%%",
                100 * (influence > 0).mean(), 100 * _mean(disclosed[influence > 0]), 100 * _mean(disclosed[influence <= 0]))
    logger.info("masked dataset written to %s, decisions to %s", target, output / DISCLOSURE_FILE)


def influence_keys(config, solvers=()):
    """Options that the influences depend on; the samples of `lissa` are drawn by chunk."""
    return INFLUENCE_KEYS + ("chunk_size",) * ("lissa" in (config.solver, *solvers))


def trained_models(config):
    """Paths of the checkpoints that influences come from, each trained if it is not there."""
    return [_trained(config)] + [_trained(seed_settings(config, config.seed + k)) for k in range(1, config.influence_models)]


def all_anchors(checkpoints, dataset, config):
    """The sets of parameters that influences come from, of all models.

    Raises:
        InputError: a checkpoint does not fit, or was trained otherwise than the first: but for the seed, all must be alike.
    """
    anchors, first = [], None
    for k, path in enumerate(checkpoints):
        values, info = load_anchors(path, dataset, config, dataset_folder(config) / RATINGS_FILE)
        first = first or info["settings"]
        wanted = {**first, "anchor_epochs": config.anchor_epochs}
        if len(checkpoints) > 1:
            wanted["seed"] = config.seed + k
        check_checkpoint(path, info["settings"], wanted, "remove it, and it is trained with the options that are given then")
        anchors += values.values()
    return anchors


def _trained(config):
    checkpoint = Path(config.checkpoint_path) / checkpoint_file(PLAIN_MODEL)
    if not checkpoint.exists():
        logger.info("%s: not there yet, so it is trained first", checkpoint)
        train(config)
    return checkpoint


def write_disclosure(path, dataset, influence, unwillingness, disclosed):
    """disclosure.csv: user_id,item_id,influence,unwillingness,disclosed of each training interaction, original ids."""
    table = pd.DataFrame({USER: dataset.user_ids[dataset.user], ITEM: dataset.item_ids[dataset.item], INFLUENCE: influence,
                          UNWILLINGNESS: unwillingness, DISCLOSED: disclosed.astype(np.int8)})
    with whole_file(path) as temporary:
        table.to_csv(temporary, index=False)


def write_masked_dataset(source, target, dataset, disclosed, decisions):
    """Writes the masked twin of a dataset: its disclosed training rows and its held-out rows, in their order.

    No sampled negative is written. The catalogue stays whole, so that the masked model knows the same items; to a trainer
    a withheld item is one that the user has not touched.

    Args:
        source, target: dataset folders.
        dataset: Dataset of the source.
        disclosed: (n,) bool, in the order of dataset.user.
        decisions: SHA-256 sum of the disclosure.csv that it follows, for its record.
    """
    ratings = pd.read_csv(source / RATINGS_FILE, dtype=str, keep_default_na=False)
    rows = np.sort(np.concatenate([dataset.rows[disclosed], dataset.held_out.ravel()]))
    with whole_file(target / RATINGS_FILE) as temporary:
        ratings.iloc[rows].to_csv(temporary, index=False)
    if (source / MOVIES_FILE).exists():
        with whole_file(target / MOVIES_FILE) as temporary:
            temporary.write_bytes((source / MOVIES_FILE).read_bytes())
    record = read_json(source / DATASET_FILE, "make the dataset anew") if (source / DATASET_FILE).exists() else {}
    write_json(target / DATASET_FILE, {**record, "dataset": target.name, "masked_from": source.name,
                                       "disclosure_sha256": decisions, "num_ratings": len(rows)})


def reset_peak_rss():
    """On Linux lets peak_rss_mb count anew from what is in RAM now."""
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5")


def peak_rss_mb():
    """Largest memory that this process has had in RAM so far, in MB."""
    status = Path("/proc/self/status")
    if status.exists():  # unlike ru_maxrss, which a process inherits from its parent
        return int(re.search(r"VmHWM:\s*(\d+)", status.read_text())[1]) * 1024 / 1e6
    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def _mean(flags):
    return float(flags.mean()) if len(flags) else 0.0
