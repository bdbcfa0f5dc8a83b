"""The influence stage: influences, the game, disclosure.csv and the masked dataset. See docs/maths.md, section 7."""
import os
import time
from pathlib import Path

import numpy as np

from .. import constants as names
from ..common.copying import copy_rows
from ..common.errors import InputError
from ..common.figures import as_written, disclosure_plot, drawn
from ..common.files import digest
from ..common.machine import peak_rss_mb
from ..common.plugins import label, plugin_files
from ..common.share import here
from ..common.stage import Stage
from ..common.stored import named, stored
from ..common.terminal import counted, logger
from ..common.together import Together
from ..common.variant import ARRAYS_SHA256, DIGESTS, REMEDY, Variant, dataset_folder, is_masked, record_of, stored_alike
from ..config import Config
from ..consent.allowed import NONE_DROPPED, TOO_FEW, VETO
from ..consent.unwillingness import data_files, unwillingness_source
from ..consent.withdrawn import check_head, head_of, read_requests
from ..constants import HOLDOUT, INTERACTIONS_FILE, MASK_SETTINGS
from ..dataset import Dataset
from ..device_adapter import set_device
from ..metrics import willingness_violation
from ..options import MASK, TRAINED
from ..sources.arrays import write_uses
from ..sources.catalogue import text_ids
from ..training.checkpoint import DIGEST
from ..training.train import LAST_SUFFIX
from .anchors import load_model, trained_model
from .decisions import CONSENT, DISCLOSURE_SHA256, MODEL_SHA256, Decisions
from .problem import Problem, load_problem
from .rule import with_reasons
from .strategies import Strategies, find, influence_groups

MADE_BY = "made_by"  # key of a masked dataset's dataset.json: the run


def preprocess(config: Config) -> None:
    """Writes disclosure.csv, the masked dataset and preprocess.json; raises InputError if what they need is unfit."""
    if config.holdout == 1:
        raise InputError("--holdout 1: leaves no validation item for the influences; give 2, or 0 to hold out nothing")
    strategy = find(config.strategy)
    inputs = data_files(config) + plugin_files(config.model, config.strategy, config.solver)
    if strategy.needs_model and config.holdout:
        inputs.append(trained_model(config))
    output, target = Path(config.output_path), dataset_folder(config, masked=True)
    disclosed, *tables = (stored_alike(config, name)
                          for name in (names.DISCLOSURE_FILE, names.RATINGS_FILE, names.HELD_OUT_FILE))
    written = [output / disclosed, output / names.PREPROCESS_FILE,
               *(target / name for name in (*tables[:1 + bool(config.holdout)], names.DATASET_FILE))]
    device = set_device(config)
    trains = strategy.asks or strategy.needs_model and not config.holdout  # else their models say how they were trained
    trains = (*TRAINED, "processes") if trains else ()
    stage = Stage("preprocess", __name__, config, ("split", "model", *trains, *influence_groups(config), *MASK), inputs,
                  written, device)
    if stage.is_done():
        return
    start = time.perf_counter()
    _check_target(config, target)
    with Together(config) as files:
        with files.write(files.OUTPUT, disclosed) as disclosure:
            problem = load_problem(config)
            dataset, decisions = problem.dataset, decide(problem, config, device)
            decisions.write(disclosure, dataset)
        record, decided = decisions.record, time.perf_counter()
        record.update({DISCLOSURE_SHA256: digest(disclosure), CONSENT: dataset.consent.as_json()})
        write_masked_dataset(config, dataset, decisions.disclosed, files, {
            DISCLOSURE_SHA256: record[DISCLOSURE_SHA256], MASK_SETTINGS: config.select("influence", *MASK)})
        # a training on an earlier mask, and what earlier versions left of instalments, may have seen more than this one
        files.remove(files.CHECKPOINT, Variant(config, True).checkpoint.with_suffix(LAST_SUFFIX).name)
        for path in output.glob("instalment_*.partial.ckpt"):
            files.remove(files.OUTPUT, path.name)
        end = time.perf_counter()
        record["seconds"].update(mask=end - decided, total=end - start)
        files.write_json(files.OUTPUT, names.PREPROCESS_FILE, record)
    stage.finish()
    drawn(disclosure_plot, output / names.DISCLOSURE_PLOT, decisions.sample(),
          f"{dataset.name}: what is disclosed ({as_written(label(config.strategy))})")
    logger.info("masked dataset written to %s, decisions to %s", target, output / disclosed)


def decide(problem: Problem, config: Config, device: str) -> Decisions:
    """The Decisions about a Problem, with their record and reasons; nothing is written. Raises as load_model does."""
    dataset, strategy = problem.dataset, find(config.strategy)
    model = load_model(dataset, config) if strategy.needs_model else None
    logger.info("mask of %s (%s): %s interactions of %s users, strategy %s%s", dataset.name, device,
                f"{dataset.all_interactions:,}", f"{len(dataset.all_user_ids):,}", config.strategy,
                f", solver {config.solver} at {counted(len(model[0]), 'epoch')}" if model and strategy.otherwise else "")
    strategies = Strategies(problem, model, config, device)
    decisions = strategies(config.strategy, config.wv_budget, config.willingness_weight)
    decisions.record = _record(config, problem, model, decisions, strategies.seconds)
    with_reasons(decisions, problem, config)
    _report(dataset, decisions)
    return decisions


def _record(config, problem, model, decisions, seconds):
    dataset, disclosed, strategy = problem.dataset, decisions.disclosed, find(config.strategy)
    total, played, counts = here().total, decisions.expected is not None, decisions.counts(dataset)
    seen = disclosed | ~dataset.yardstick if strategy.needs_model else disclosed
    spent = float(total(willingness_violation(seen, problem.unwillingness, counts["num_users"])))
    why = (dataset.dropped or NONE_DROPPED).why
    vetoed, withdrawn, too_few = (int(total(found.sum())) for found in (why == VETO, why > 0, why == TOO_FEW))
    trained = model[1]["settings"] if model else config.select("split", "model", *TRAINED) if strategy.asks else None
    game = {"solver": config.solver, "damping": config.damping, "parameter_sets": len(model[0]) if model else None,
            "anchors": len(decisions.record.get("anchor_wv", [None])),
            **{key: getattr(config, key) for key in ("prior", "rounds", "game_rate")}, **decisions.record}
    return {"dataset": config.dataset, "seed": config.seed, "num_items": dataset.num_items, **counts,
            "strategy": config.strategy, "unwillingness": unwillingness_source(config),
            "willingness_file": Path(config.willingness_file).name or None, "model_settings": trained,
            MODEL_SHA256: model[1][DIGEST] if model else None, **(game if played else decisions.record),
            "seconds": seconds, "spent_wv": spent, "willingness_weight": decisions.weight,
            "wv_budget": config.wv_budget if config.willingness_weight is None or not played else None,
            "veto": config.veto, "vetoed": vetoed, "withdrawn": withdrawn, "too_few_rows": too_few,
            "num_scored": int(total(len(dataset.scored))),
            "peak_rss_mb": float(here().each(peak_rss_mb()).max())}


def _report(dataset, decisions):
    disclosed, record, weight = decisions.disclosed, decisions.record, decisions.weight
    total, every = here().total, dataset.all_interactions
    number = int(total(disclosed.sum()))
    logger.info("disclosed: %s of %s interactions (%.1f%%), wv %.4f of %.4f (%.1f%%)%s; trained on to find that out: "
                "%.4f", f"{number:,}", f"{every:,}", 100 * number / every, record["wv"], record["total_wv"],
                100 * decisions.wv_share, "" if weight is None else f" at willingness_weight {weight:.6g}",
                record["spent_wv"])
    if decisions.influence is not None:
        helpful = decisions.influence > 0
        good, kept = total([helpful.sum(), (helpful & disclosed).sum()])
        logger.info("helpful (influence > 0): %.1f%% of the interactions; of these %.1f%% are "
                    "disclosed, of the harmful %.1f%%", 100 * good / every, 100 * kept / max(good, 1),
                    100 * (number - kept) / max(every - good, 1))
    if record["veto"]:
        logger.info("vetoed: %s interactions, which take no part in anything", f"{record['vetoed']:,}")


def _check_target(config, target):
    if stored(target / names.RATINGS_FILE).exists() and not is_masked(target):
        raise InputError(f"{target}: was not written by preprocess.py, which would replace it; move it to another place")
    record = record_of(target, REMEDY)
    check_head(record, read_requests(config), target / names.DATASET_FILE)
    made_by = record.get(MADE_BY)
    if made_by not in (None, _run_of(config)) and not config.overwrite:
        raise InputError(f"{target}: is the masked dataset of the run with --output_path "
                         f"{os.path.normpath(target.parent / made_by)}; give this run a --data_path of its own, or "
                         "replace it with --overwrite")


def _run_of(config):
    return os.path.relpath(os.path.realpath(config.output_path), os.path.realpath(config.data_path))


def write_masked_dataset(config: Config, dataset: Dataset, disclosed: np.ndarray, files: Together, record: dict) -> None:
    """Writes the masked twin of a dataset: what is disclosed in ratings.csv, what is held out beside it in held_out.csv.

    Rows are in the order of the source, whose catalogue is that of the twin too, so that the masked model knows the same
    users and items; to a trainer a withheld item is one that the user has not touched.
    disclosed: (n,) bool, which interactions of the source, `dataset`, are.
    record: dict, what its dataset.json is to say beside that of the source.
    """
    source, target = dataset_folder(config), dataset_folder(config, masked=True)
    made, digests = record_of(source), {}
    uses = dataset.uses(made.get("num_ratings", 0), disclosed)
    for use, name in enumerate((names.RATINGS_FILE, *[names.HELD_OUT_FILE] * bool(config.holdout)), 1):
        name = stored_alike(config, name)
        with files.write(files.MASKED, name) as temporary:
            copy_rows(stored(source / names.RATINGS_FILE), uses == use, temporary)
            digests[name] = digest(temporary)
    if about := made.get(DIGESTS, {}).get(INTERACTIONS_FILE):
        digests[names.USES_FILE], record[ARRAYS_SHA256] = write_uses(files, uses), about
    # of an earlier version, or where something was held out
    for name in (names.MOVIES_FILE, names.HELD_OUT_FILE, named(names.HELD_OUT_FILE, "parquet"), names.USES_FILE):
        if name not in digests:
            files.remove(files.MASKED, name)
    files.write_json(files.MASKED, names.DATASET_FILE, {
        **made, "dataset": target.name, "masked_from": source.name, **record, "num_ratings": int(disclosed.sum()),
        HOLDOUT: config.holdout, DIGESTS: digests, **text_ids(dataset.user_ids, dataset.item_ids),
        MADE_BY: _run_of(config), **head_of(read_requests(config))})
