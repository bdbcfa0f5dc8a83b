"""The influence stage: influences, the game, disclosure.csv and the masked dataset. See docs/maths.md, section 7."""
from __future__ import annotations

import logging
import time
from pathlib import Path

import numpy as np

from ..common.errors import InputError
from ..common.figures import as_written, disclosure_plot, drawn
from ..common.files import atomic_write, digest, read_json, write_csv, write_json
from ..common.machine import peak_rss_mb
from ..common.plugins import label, plugin_files
from ..common.ranks import check_ranks, in_ranks, rank_folder
from ..common.share import Exchange
from ..common.stage import Stage
from ..common.tables import copy_rows, read_table
from ..common.variant import dataset_folder, is_masked
from ..common.wording import counted
from ..config import MASK, TRAINED, Config
from ..constants import (
    DATASET_FILE,
    DISCLOSED,
    DISCLOSURE_FILE,
    DISCLOSURE_PLOT,
    EXPECTED,
    INFLUENCE,
    MASK_SETTINGS,
    MOVIES_FILE,
    PREPROCESS_FILE,
    RATINGS_FILE,
    TEXT_IDS,
    UNWILLINGNESS,
)
from ..dataset import UNFINISHED, Dataset, HeldOut
from ..device_adapter import set_device
from ..metrics import willingness_violation
from ..sources.catalogue import nameless, text_ids
from ..sources.deal import deal, join, load_share
from ..sources.unwillingness import data_files, unwillingness_source
from .anchors import load_model, parameter_sets, trained_model
from .decisions import decisions_of
from .problem import Kept, load_problem, problem_of
from .strategies import ASK_FIRST, IFRQE, NONE, PLAYED, Strategies, influence_groups, needs_model

logger = logging.getLogger("ifrqe")

_PART, _ROWS = "disclosure_{}.csv", "rows_{}.npy"  # of each rank
_IN_RANKS = {"strategy": (NONE, "random", "threshold", IFRQE, ASK_FIRST), "solver": ("blend", "block")}


def preprocess(config: Config) -> None:
    """Decides what each user discloses; writes disclosure.csv, the masked dataset and preprocess.json.

    Trains the plain NCF first if there is no checkpoint of it.

    Raises:
        InputError: the dataset, the checkpoint or the unwillingness is missing or unfit.
    """
    if config.holdout < 2:
        raise InputError(f"--holdout {config.holdout}: leaves no validation item for the influences; use 2 here")
    check_ranks(config, _IN_RANKS)
    inputs = data_files(config) + plugin_files(config.model, config.strategy, config.solver)
    if needs_model(config.strategy):
        inputs.append(trained_model(config))
    output, target = Path(config.output_path), dataset_folder(config, masked=True)
    written = [output / DISCLOSURE_FILE, output / PREPROCESS_FILE,
               *(target / name for name in (RATINGS_FILE, MOVIES_FILE, DATASET_FILE))]
    device = set_device(config)
    trains = (*TRAINED, "processes") if config.strategy == ASK_FIRST else ()  # else their models say how they were trained
    stage = Stage("preprocess", config, ("split", "model", *trains, *influence_groups(config), *MASK), inputs,
                  written, device)
    if stage.is_done():
        return
    start = time.perf_counter()
    if config.ranks == 1:
        problem = load_problem(config)
        decisions, record, strategies = _decide(problem, config, device, Kept(output, stage.basis))
        dataset, kept = problem.dataset, decisions.disclosed
        decisions.write(output / DISCLOSURE_FILE, dataset)
    else:
        dataset, decisions, record = _decide_in_ranks(config, output, device, stage.basis)
        kept = np.ones(len(dataset.rows), bool)
    decided = time.perf_counter()
    write_masked_dataset(config, dataset, kept, {
        "disclosure_sha256": digest(output / DISCLOSURE_FILE), MASK_SETTINGS: config.select("influence", *MASK)})
    end = time.perf_counter()
    record["seconds"].update(mask=end - decided, total=end - start)
    write_json(output / PREPROCESS_FILE, record)
    stage.finish()
    if config.ranks == 1:
        strategies.forget()
        _report(dataset, decisions, record, config.veto)
    drawn(disclosure_plot, output / DISCLOSURE_PLOT, decisions,
          f"{dataset.name}: what is disclosed ({as_written(label(config.strategy))})")
    logger.info("masked dataset written to %s, decisions to %s", target, output / DISCLOSURE_FILE)


def _decide(problem, config, device, kept):
    """The Decisions about a problem, or about a rank's share of it, what preprocess.json says, and the Strategies."""
    dataset = problem.dataset
    model = load_model(dataset, config) if needs_model(config.strategy) else None
    logger.info("mask of %s (%s%s): %s interactions of %s users, strategy %s%s", dataset.name, device,
                f", {dataset.share.size} ranks" if dataset.share.size > 1 else "", f"{dataset.all_interactions:,}",
                f"{len(dataset.all_user_ids):,}", config.strategy,
                f", solver {config.solver} at {counted(len(parameter_sets(model)), 'epoch')}"
                if model and config.strategy in PLAYED else "")
    strategies = Strategies(problem, model, config, device, kept)
    decisions = strategies(config.strategy, config.wv_budget, config.willingness_weight)
    return decisions, _record(config, problem, model, decisions, strategies.seconds), strategies


def _decide_in_ranks(config, output, device, basis):
    """Writes disclosure.csv, of several ranks' decisions; returns a Dataset of the rows kept, the Decisions, the record."""
    with rank_folder(config) as folder:
        ids = deal(config, False, folder, unwillingness=True)
        record = in_ranks(config, folder, __name__, "decide_in_rank", device, basis)
        join(folder, [_PART.format(k) for k in range(config.ranks)], output / DISCLOSURE_FILE)
        rows = np.concatenate([np.load(folder / _ROWS.format(k)) for k in range(config.ranks)])
    table = read_table(output / DISCLOSURE_FILE, (INFLUENCE, UNWILLINGNESS, DISCLOSED, EXPECTED),
                       float_precision="round_trip", extra="quiet")
    decisions = decisions_of(table, record)
    dataset = Dataset(dataset_folder(config).name, ids, None, None, rows, HeldOut(None, None, np.zeros(0, np.int64)))
    return dataset, decisions, record


def decide_in_rank(config: Config, folder: Path, exchange: Exchange, device: str, basis: dict) -> dict:
    """What each rank does of `preprocess`; leaves its part of disclosure.csv, and the rows that its users keep."""
    problem = problem_of(load_share(config, False, folder, exchange), config)
    dataset, rank = problem.dataset, [exchange.rank, config.ranks]
    kept = Kept(Path(config.output_path) / "rank_{}_of_{}".format(*rank), {**basis, "rank": rank})
    decisions, record, strategies = _decide(problem, config, device, kept)
    decisions.write(folder / _PART.format(exchange.rank), dataset)
    np.save(folder / _ROWS.format(exchange.rank),
            np.concatenate([dataset.rows[decisions.disclosed], dataset.held_out.ravel()]))
    _report(dataset, decisions, record, config.veto)
    strategies.forget()
    if kept.folder.exists() and not any(kept.folder.iterdir()):
        kept.folder.rmdir()
    return record


def _record(config, problem, model, decisions, seconds):
    """What preprocess.json says."""
    dataset, disclosed = problem.dataset, decisions.disclosed
    users, total = len(dataset.all_user_ids), dataset.share.total
    played = config.strategy in PLAYED and decisions.expected is not None
    wv, total_wv = (float(total(willingness_violation(kept, problem.unwillingness, users)))
                    for kept in (disclosed, np.ones(len(disclosed))))
    trained = model[1]["settings"] if model else None
    if config.strategy == ASK_FIRST:
        trained = config.select("split", "model", *TRAINED)
    game = {}
    if played:
        game = {"solver": config.solver, "damping": config.damping,
                "parameter_sets": len(parameter_sets(model)) if model else None,
                "anchors": len(decisions.record.get("anchor_wv", [wv])),
                **{key: getattr(config, key) for key in ("prior", "rounds", "game_rate")},
                **decisions.record}
    return {"dataset": config.dataset, "seed": config.seed, "num_users": users, "num_items": dataset.num_items,
            "num_interactions": dataset.all_interactions, "strategy": config.strategy,
            "unwillingness": unwillingness_source(config), "willingness_file": Path(config.willingness_file).name or None,
            "model_settings": trained, **game, "seconds": seconds, "wv": wv, "total_wv": total_wv,
            "spent_wv": total_wv if needs_model(config.strategy) else wv, "willingness_weight": decisions.weight,
            "wv_budget": config.wv_budget if config.willingness_weight is None or not played else None,
            "vetoed": int(total((problem.unwillingness == 1).sum())) if config.veto else 0,
            "disclosed_share": float(total(disclosed.sum()) / dataset.all_interactions),
            "peak_rss_mb": float(dataset.share.each(peak_rss_mb()).max())}


def _report(dataset, decisions, record, veto):
    """Says in the log what came of it."""
    disclosed, wv, total_wv, weight = decisions.disclosed, record["wv"], record["total_wv"], decisions.weight
    total, every = dataset.share.total, dataset.all_interactions
    number = int(total(disclosed.sum()))
    logger.info("disclosed: %s of %s interactions (%.1f%%), wv %.4f of %.4f (%.1f%%)%s; trained on to find that out: "
                "%.4f", f"{number:,}", f"{every:,}", 100 * number / every, wv, total_wv,
                100 * wv / total_wv if total_wv else 0, "" if weight is None else f" at willingness_weight {weight:.6g}",
                record["spent_wv"])
    if decisions.influence is not None:
        helpful = decisions.influence > 0
        good, kept = total([helpful.sum(), (helpful & disclosed).sum()])
        logger.info("helpful to the validation item (influence > 0): %.1f%% of the interactions; of these %.1f%% are "
                    "disclosed, of the harmful %.1f%%", 100 * good / every, 100 * kept / max(good, 1),
                    100 * (number - kept) / max(every - good, 1))
    if veto:
        logger.info("vetoed: %s interactions, none of them disclosed", f"{record['vetoed']:,}")


def write_masked_dataset(config: Config, dataset: Dataset, disclosed: np.ndarray, record: dict) -> None:
    """Writes the masked twin of a dataset: its disclosed training rows and its held-out rows, in their order.

    No sampled negative is written. The catalogue stays whole, so that the masked model knows the same items; to a trainer
    a withheld item is one that the user has not touched.

    Args:
        config: data_path and dataset.
        dataset: Dataset of the source.
        disclosed: (n,) bool, in the order of dataset.user.
        record: dict, what its dataset.json is to say beside that of the source.

    Raises:
        InputError: another dataset lies there.
    """
    source, target = dataset_folder(config), dataset_folder(config, masked=True)
    start = {"dataset": target.name, "masked_from": source.name}
    if (target / RATINGS_FILE).exists() and not is_masked(target):
        raise InputError(f"{target}: was not written by preprocess.py, which would replace it; move it to another place")
    write_json(target / DATASET_FILE, {**start, UNFINISHED: True})  # what is there belongs together only after the last file
    rows = np.sort(np.concatenate([dataset.rows[disclosed], dataset.held_out.ravel()]))
    with atomic_write(target / RATINGS_FILE) as temporary:
        copy_rows(source / RATINGS_FILE, rows, temporary)
    with atomic_write(target / MOVIES_FILE) as temporary:
        if (source / MOVIES_FILE).exists():
            temporary.write_bytes((source / MOVIES_FILE).read_bytes())
        else:  # the items that occur: in the masked twin some may occur no more
            write_csv(nameless(dataset.item_ids), temporary)
    made = read_json(source / DATASET_FILE, "make the dataset anew") if (source / DATASET_FILE).exists() else {}
    write_json(target / DATASET_FILE, {**made, **start, **record, "num_ratings": len(rows),
                                       TEXT_IDS: text_ids(dataset.user_ids, dataset.item_ids)})
