"""The evaluation stage: both models on the same candidates of the test items, and the table that compares them.

See docs/maths.md, section 2.
"""
from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from .. import metrics
from ..candidates import counting, evaluation_candidates
from ..common.errors import InputError
from ..common.files import atomic_write, read_json, write_json
from ..common.plugins import plugin_files
from ..common.share import here
from ..common.stage import Stage
from ..common.stored import write_table
from ..common.terminal import RESULT, logger
from ..common.variant import Variant, decision_files
from ..consent.unwillingness import data_files, load_stated
from ..constants import MASKED_MODEL, RATINGS_FILE, USER, eval_file, users_file
from ..dataset import Dataset, without_test_items
from ..device_adapter import set_device
from ..game.decisions import Decisions, dataset_of, decisions_behind
from ..network import score, score_all
from ..options import EVALUATED, MASK
from .compare import PERSONAL, TRAINED, comparison_table, made_otherwise, not_comparable
from .personal import load_serving
from .recommend import have_had

LOWEST = np.finfo(np.float32).min  # score of what takes no part in a ranking


def evaluate(variant: Variant) -> tuple[Dataset, Decisions | None] | None:
    """Evaluates the model of a Variant on the test items.

    Writes eval_MODEL.json, eval_MODEL_users.csv (user_id; rank of the user's test item from 0; loss, the mean cross-entropy
    of the candidates, and pos_loss, that of the test item, in nats) and a line of the log. Both models are scored on the
    ORIGINAL dataset's test items and candidates, with the user rows that --personal names; with auto the record
    has HR@k and NDCG@k with either rows as well. After the masked one the table of both follows, if they may be compared.
    Returns: What it has read, for the report: the Dataset, and the Decisions if there are any; None if it was done before,
        or nothing is held out.
    Raises InputError: a checkpoint, the dataset or the decisions are missing or do not fit together.
    """
    config, model, read = variant.config, variant.model, None
    output = Path(config.output_path)
    for path in decision_files(config):
        if variant.masked and not path.exists():
            raise InputError(f"{path}: no such file; run preprocess.py first, or set --decisions_path to its results")
    if not config.holdout:
        logger.info("--holdout 0: nothing is held out, so that there is nothing to score; ask with --recommend, "
                    "--explain_user, --why or --receipt, or score a run in folders of its own without --holdout 0")
        return None
    optional = [variant.checkpoint, *decision_files(config), Path(config.eval_negatives), Path(config.eval_item_list)]
    inputs = data_files(config) + plugin_files(config.model)
    inputs += [path for path in optional if path.is_file() and path not in inputs]
    device = set_device(config)
    stage = Stage(f"eval_{model.lower()}", __name__, config, ("split", "model", *EVALUATED, *MASK), inputs,
                  [output / eval_file(model), output / users_file(model)], device)
    if not stage.is_done():
        read = _evaluate(variant, output, stage)
        stage.finish()
    if variant.masked and here().first:
        _compare(output, config)
    return read


def _compare(output, config):
    other, remedy = output / eval_file(config.plain_model), "run eval.py without --masked for the comparison"
    if not other.exists():
        logger.info("%s: not there; %s", other, remedy)
        return
    plain, masked = (read_json(path, remedy) for path in (other, output / eval_file(MASKED_MODEL)))
    if differing := not_comparable(plain, masked):
        logger.warning("no comparison with %s: of other data or settings (%s); train and evaluate both models with the "
                       "same options", other, differing)
        return
    logger.log(RESULT, "%s", comparison_table(plain, masked))
    if noted := made_otherwise(plain, masked):
        logger.warning("%s", noted)


def _evaluate(variant, output, stage):
    begin, config, model = time.perf_counter(), variant.config, variant.model
    dataset = dataset_of(variant)
    said, users = _score(variant, dataset)
    found, info, everyone = said["metrics"], said["info"], len(dataset.all_user_ids)
    decisions = decisions_behind(variant, dataset)
    used, game = _violation(variant, dataset, decisions, found["loss"])
    names = dataset.all_user_ids[dataset.of_scored(dataset.numbers[dataset.scored])]
    result = {"model": model, "dataset": config.dataset, "seed": config.seed, "epoch": info["epoch"],
              "personal": said["personal"], "num_users": everyone,
              **({} if len(names) == everyone else {"num_scored": len(names)}), "num_items": dataset.num_items,
              "num_interactions": used, "num_candidates": said["num_candidates"], **found, **game}
    with atomic_write(output / users_file(model)) as temporary:
        write_table(pd.DataFrame({USER: names, **users}), temporary)
    trained = {**info.get("settings", {}), **{key: info.get(key) for key in ("device", "mindspore")}}
    write_json(output / eval_file(model), {**result, "ratings_sha256": stage.depends["inputs"][RATINGS_FILE],
        "candidates": Path(config.eval_negatives).name if config.eval_negatives else "drawn",
        "candidates_sha256": said["candidates_sha256"], "training": trained,
        "made_with": {key: stage.depends[key] for key in ("code", "mindspore", "device")},
        "seconds": time.perf_counter() - begin})
    line = "  ".join(f"{k} {v:.5g}" if isinstance(v, float) else f"{k} {v}" for k, v in result.items())
    if here().first:
        with open(output / config.eval_file_name, "a", encoding="utf-8") as log:
            log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {line}\n")
    logger.info("%s on %s (%s): %s pairs scored in %.1f s", model, dataset.name, stage.depends["device"],
                f"{len(names) * said['num_candidates']:,}", said["seconds"])
    logger.info("%s", line)
    return dataset, decisions


def _score(variant, dataset):
    """What the model of a Variant makes of a dataset, and the columns of all users' file."""
    config, of_all, k = variant.config, dataset.of_scored, variant.config.top_k
    serving = load_serving(dataset, variant)
    net = serving.net
    candidates = evaluation_candidates(dataset, "test", config)
    counts = counting(everyones := of_all(candidates))
    if counts is not None:
        logger.info("%s candidates are their user's own test item once more, and do not count", f"{int((~counts).sum()):,}")
    start = time.perf_counter()
    scores = of_all(score(net, candidates, config.eval_batch_size, dataset.scored))
    seconds = time.perf_counter() - start
    found, rank = metrics.all_metrics(scores, k, counts), metrics.ranks(scores, counts)
    further = {}  # ranks, by what stands around the names of their metrics
    if config.eval_mode == "full":
        everything = score_all(net, dataset.scored, dataset.num_items, config.eval_batch_size)
        further["full_{}"] = of_all(ranks_among_untouched(dataset, dataset.test, everything))
    if serving.other is not None:
        net.set_values(serving.other)
        other = metrics.ranks(of_all(score(net, candidates, config.eval_batch_size, dataset.scored)), counts)
        trained, personal = (other, rank) if serving.personal else (rank, other)
        further.update({f"{{}}_{TRAINED}": trained, f"{{}}_{PERSONAL}": personal})
    for name, of_users in further.items():
        found[name.format(f"hr@{k}")] = metrics.hit_ratio_of_ranks(of_users, k)
        found[name.format(f"ndcg@{k}")] = metrics.ndcg_of_ranks(of_users, k)
    said = {"metrics": found, "info": serving.info, "personal": serving.personal, "num_candidates": candidates.shape[1],
            "seconds": seconds, "candidates_sha256": hashlib.sha256(everyones.tobytes()).hexdigest()}
    return said, {"rank": rank, "loss": metrics.mean_loss(scores, counts), "pos_loss": metrics.cross_entropy(scores)[:, 0]}


def _violation(variant, dataset, decisions, loss):
    """How many interactions train the model, and its wv, spent_wv, total_wv, willingness_weight and reward.

    spent_wv is the wv of all that any parameter was trained on, up to the mask and by it.
    These are of the histories before a validation item: without one, users disclose nothing that is known here.
    """
    config = variant.config
    if config.holdout == 1:
        return dataset.all_interactions, {}
    b, weight = (decisions.unwillingness, decisions.weight) if decisions is not None else (
        load_stated(dataset, config)[0], config.willingness_weight)
    used = decisions.disclosed if variant.masked else np.ones(len(b), bool)
    total_wv, wv = (float(here().total(metrics.willingness_violation(kept, b, len(dataset.all_user_ids))))
                    for kept in (np.ones(len(b)), used))
    spent = decisions.record.get("spent_wv") if variant.masked else total_wv
    return int(here().total(used.sum())), {"wv": wv, "spent_wv": spent, "total_wv": total_wv, "willingness_weight": weight,
                             "reward": None if weight is None else -loss - weight * wv}


def ranks_among_untouched(dataset: Dataset, target: np.ndarray,
                          scored: Iterable[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Rank of an item of each user among all items that are neither in their history nor their validation item.

    Where the validation item is ranked, the test item stands among the others: no choice knows it. `target`: (num_users,)
    the test or the validation items; `scored`: pairs of (c,) users and (c, num_items) scores, of all users that are scored.
    Returns: (scored users,) 0-based; an item with the same score counts as ranked before it. What a mask withholds is not
        ranked.
    """
    known, rank = without_test_items(dataset), np.empty(dataset.num_users, np.int64)
    for users, scores in scored:
        row, own = np.arange(len(users))[:, None], target[users][:, None]
        skipped = have_had(users, known)
        skipped[row, own] = True  # it is not ranked against itself
        rank[users] = metrics.ranks(np.concatenate([scores[row, own], np.where(skipped, LOWEST, scores)], 1))
    return rank[dataset.scored]
