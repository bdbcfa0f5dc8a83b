"""The evaluation stage: both models on the same candidates of the test items, and the table that compares them."""
import logging
import time
from pathlib import Path

import numpy as np
import pandas as pd

from . import metrics
from .constants import (
    DATASET_FILE,
    DISCLOSED,
    DISCLOSURE_FILE,
    EVAL_KEYS,
    GAME_KEYS,
    ITEM,
    MASKED_MODEL,
    MODEL_KEYS,
    PLAIN_MODEL,
    PREPROCESS_FILE,
    SPLIT_KEYS,
    UNWILLINGNESS,
    USER,
    checkpoint_file,
    eval_file,
)
from .dataset import (
    dataset_files,
    dataset_folder,
    evaluation_candidates,
    id_types,
    load_dataset,
    masked_settings,
    ratings_path,
)
from .device_adapter import set_device
from .errors import InputError
from .ncf import load_checkpoint, score, score_all
from .stage import Stage, digest, read_json, write_json
from .unwillingness import load_unwillingness, unwillingness_files

logger = logging.getLogger("ifrqe")

LOWEST = np.finfo(np.float32).min  # score of what takes no part in a ranking
COMPARED = ("dataset", "seed", "num_users", "num_items", "num_candidates", "total_wv")  # equal in both, or no comparison


def evaluate(config):
    """Evaluates the model that the settings name on the test items; writes eval_MODEL.json and a line of the log.

    Both models are scored on the ORIGINAL dataset's test items and candidates. With --masked the table of both follows.

    Raises:
        InputError: a checkpoint, the dataset or the decisions are missing or do not fit together.
    """
    model = MASKED_MODEL if config.masked else PLAIN_MODEL
    output = Path(config.output_path)
    checkpoint = Path(config.checkpoint_path) / checkpoint_file(model)
    decisions = [_decisions_folder(config) / name for name in (DISCLOSURE_FILE, PREPROCESS_FILE)]
    if config.masked:
        for path in decisions:
            if not path.exists():
                raise InputError(f"{path}: no such file; run preprocess.py first, or set --decisions_path to its results")
    optional = [checkpoint, *decisions, *map(Path, filter(None, (config.eval_negatives, config.eval_item_list)))]
    inputs = dataset_files(config)
    inputs += [p for p in (*unwillingness_files(config), *optional) if p.is_file() and p not in inputs]
    stage = Stage(f"eval_{model.lower()}", config, SPLIT_KEYS + MODEL_KEYS + EVAL_KEYS + GAME_KEYS, inputs,
                  [output / eval_file(model)])
    if not stage.is_done():
        _evaluate(config, model, checkpoint, output)
        stage.finish()
    if config.masked:
        other, remedy = output / eval_file(PLAIN_MODEL), "run eval.py without --masked for the comparison"
        if not other.exists():
            logger.info("%s: not there; %s", other, remedy)
            return
        plain, masked = (read_json(path, remedy) for path in (other, output / eval_file(model)))
        if any(plain.get(key) != masked[key] for key in COMPARED):
            logger.info("%s: of other data or settings (%s); %s", other,
                        ", ".join(f"{k}={plain.get(k)}" for k in COMPARED if plain.get(k) != masked[k]), remedy)
            return
        logger.info("%s", comparison_table(plain, masked))


def _evaluate(config, model, checkpoint, output):
    device = set_device(config)
    dataset = load_dataset(config)
    net, info = load_checkpoint(checkpoint, dataset, masked_settings(config), ratings_path(config, config.masked))
    candidates = evaluation_candidates(dataset, "test", config)
    start = time.perf_counter()
    scores = score(net, candidates, config.eval_batch_size)
    seconds = time.perf_counter() - start
    everything = used = np.ones(dataset.num_interactions, bool)
    result = metrics.all_metrics(scores, config.top_k)
    game = {}
    if config.holdout > 1:  # what users disclose are the histories before a validation item
        unwillingness, disclosed, weight = _decisions(config, dataset)
        used = disclosed if config.masked else everything
        total_wv, wv = (metrics.willingness_violation(kept, unwillingness, dataset.num_users) for kept in (everything, used))
        game = {"wv": wv, "total_wv": total_wv, "willingness_weight": weight,
                "reward": None if weight is None else -result["loss"] - weight * wv}
    if config.eval_mode == "full":
        rank = full_ranks(net, dataset, config.eval_batch_size)
        result = {**result, f"full_hr@{config.top_k}": metrics.hit_ratio_of_ranks(rank, config.top_k),
                  f"full_ndcg@{config.top_k}": metrics.ndcg_of_ranks(rank, config.top_k)}
    result = {"model": model, "dataset": config.dataset, "seed": config.seed, "epoch": info["epoch"],
              "num_users": dataset.num_users, "num_items": dataset.num_items, "num_interactions": int(used.sum()),
              "num_candidates": candidates.shape[1], **result, **game}
    write_json(output / eval_file(model), result)
    line = "  ".join(f"{k} {v:.5g}" if isinstance(v, float) else f"{k} {v}" for k, v in result.items())
    with open(output / config.eval_file_name, "a", encoding="utf-8") as log:
        log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {line}\n")
    logger.info("%s on %s (%s): %s pairs scored in %.1f s", model, dataset.name, device, f"{scores.size:,}", seconds)
    logger.info("%s", line)


def full_ranks(net, dataset, batch_size):
    """Rank of each user's test item among all items that she has not touched before.

    Returns:
        (num_users,) 0-based; an item with the same score counts as ranked before it.

    Raises:
        FloatingPointError: a score is NaN or infinite.
    """
    seen = dataset.history_pairs()
    everything = np.arange(dataset.num_items)
    rank = np.empty(dataset.num_users, np.int64)
    for users, scores in score_all(net, np.arange(dataset.num_users), dataset.num_items, batch_size):
        skipped = seen.contains(users[:, None], everything)
        skipped[np.arange(len(users)), dataset.test[users]] = True  # it is not ranked against itself
        skipped[np.arange(len(users))[:, None], dataset.validations()[users]] = True
        rank[users] = metrics.ranks(np.concatenate([scores[np.arange(len(users)), dataset.test[users]][:, None],
                                                    np.where(skipped, LOWEST, scores)], 1))
    return rank


def _decisions_folder(config):
    return Path(config.decisions_path or config.output_path)


def _decisions(config, dataset):
    """Unwillingness (n,), what is disclosed (n,) bool and the willingness weight; the last two None before preprocess.py."""
    output = _decisions_folder(config)
    path = output / DISCLOSURE_FILE
    preprocessed = path.exists() and (output / PREPROCESS_FILE).exists()
    if preprocessed:
        remedy = "run preprocess.py with --overwrite"
        record = read_json(output / PREPROCESS_FILE, remedy, ["dataset", "willingness_weight"])
        preprocessed = config.masked or record["dataset"] == config.dataset  # results of another dataset may lie there
    if not preprocessed:
        return load_unwillingness(dataset, config), None, config.willingness_weight
    try:
        table = pd.read_csv(path, **id_types(dataset))
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as e:
        raise InputError(f"{path}: is no CSV file ({' '.join(str(e).split())}); {remedy}") from e
    if not {USER, ITEM, UNWILLINGNESS, DISCLOSED} <= set(table):
        raise InputError(f"{path}: lacks columns; {remedy}")
    same = len(table) == dataset.num_interactions and np.array_equal(table[USER], dataset.user_ids[dataset.user]) \
        and np.array_equal(table[ITEM], dataset.item_ids[dataset.item])
    if not same:
        raise InputError(f"{path}: does not list the training interactions of {dataset.name}; run preprocess.py anew, "
                         "or set --decisions_path to where its results are")
    if config.masked:
        masked = dataset_folder(config, masked=True) / DATASET_FILE
        if read_json(masked, remedy).get("disclosure_sha256") != digest(path):
            raise InputError(f"{path}: is not what {masked.parent} was made from; run preprocess.py, then train.py --masked")
    return table[UNWILLINGNESS].to_numpy(), table[DISCLOSED].to_numpy() == 1, record["willingness_weight"]


def comparison_table(plain, masked):
    """The results of both models side by side, with the change, as text."""
    rows = [("", plain["model"], masked["model"], "change")]
    for key in masked:
        a, b = plain.get(key), masked[key]
        if key in ("model", "epoch", *COMPARED[:-1]) or a is None or b is None:
            continue
        if isinstance(b, int):
            rows.append((key, f"{a:,}", f"{b:,}", f"{b - a:+,}"))
        else:
            digits = ".3g" if key == "willingness_weight" else ".4f"
            rows.append((key, format(a, digits), format(b, digits), format(b - a, "+" + digits)))
    widths = [max(len(row[k]) for row in rows) for k in range(4)]
    lines = ["  ".join(f"{cell:<{w}}" if k == 0 else f"{cell:>{w}}" for k, (cell, w) in enumerate(zip(row, widths)))
             for row in rows]
    ruler = "-" * len(lines[0])
    title = f"{plain['dataset']}: test items, plain against masked"
    return "\n".join([ruler, title, ruler, lines[0], ruler, *lines[1:], ruler])
