"""The evaluation stage: both models on the same candidates of the test items, and the table that compares them."""
import hashlib
import logging
import re
import time
from pathlib import Path

import numpy as np
import pandas as pd

from . import metrics
from .constants import (
    EVAL_KEYS,
    GAME_KEYS,
    HOLDOUT,
    MASKED_MODEL,
    MODEL_KEYS,
    PLAIN_MODEL,
    RATINGS_FILE,
    SPLIT_KEYS,
    USER,
    checkpoint_file,
    eval_file,
    users_file,
)
from .dataset import counting, evaluation_candidates, load_dataset, masked_settings, ratings_path
from .decisions import decision_files, read_decisions
from .device_adapter import set_device
from .errors import InputError
from .ncf import load_checkpoint, score, score_all
from .stage import Stage, read_json, whole_file, write_json
from .terminal import RESULT, Painted, paint, write_csv
from .unwillingness import data_files, load_unwillingness

logger = logging.getLogger("ifrqe")

LOWEST = np.finfo(np.float32).min  # score of what takes no part in a ranking
# Equal in two evaluations, or there is no comparison; what is in `training` as well, option by option.
COMPARED = ("dataset", "seed", "num_users", "num_items", "ratings_sha256", "num_candidates", "candidates",
            "candidates_sha256", "total_wv")
OF_THE_SEED = ("seed", "training seed", "candidates_sha256", "total_wv")  # may differ between different seeds
HIGHER_IS_BETTER = ("hr@", "ndcg@", "full_hr@", "full_ndcg@", "auc", "reward")
LOWER_IS_BETTER = ("loss", "pos_loss", "wv")


def evaluate(config):
    """Evaluates the model that the settings name on the test items.

    Writes eval_MODEL.json, eval_MODEL_users.csv (user_id; rank of the user's test item from 0; loss, the mean cross-entropy
    of the candidates, and pos_loss, that of the test item, in nats) and a line of the log. Both models are scored on the
    ORIGINAL dataset's test items and candidates. With --masked the table of both follows, if they may be compared.

    Raises:
        InputError: a checkpoint, the dataset or the decisions are missing or do not fit together.
    """
    model = MASKED_MODEL if config.masked else PLAIN_MODEL
    output = Path(config.output_path)
    checkpoint = Path(config.checkpoint_path) / checkpoint_file(model)
    decisions = list(decision_files(config))
    if config.masked:
        for path in decisions:
            if not path.exists():
                raise InputError(f"{path}: no such file; run preprocess.py first, or set --decisions_path to its results")
    optional = [checkpoint, *decisions, *map(Path, filter(None, (config.eval_negatives, config.eval_item_list)))]
    inputs = data_files(config)
    inputs += [p for p in optional if p.is_file() and p not in inputs]
    _check_log(output / config.eval_file_name)
    device = set_device(config)
    stage = Stage(f"eval_{model.lower()}", config, SPLIT_KEYS + MODEL_KEYS + EVAL_KEYS + GAME_KEYS, inputs,
                  [output / eval_file(model), output / users_file(model)], device)
    if not stage.is_done():
        _evaluate(config, model, checkpoint, output, stage)
        stage.finish()
    if config.masked:
        other, remedy = output / eval_file(PLAIN_MODEL), "run eval.py without --masked for the comparison"
        if not other.exists():
            logger.info("%s: not there; %s", other, remedy)
            return
        plain, masked = (read_json(path, remedy) for path in (other, output / eval_file(model)))
        if differing := not_comparable(plain, masked):
            logger.warning("no comparison with %s: of other data or settings (%s); train and evaluate both models with the "
                           "same options", other, differing)
            return
        logger.log(RESULT, "%s", comparison_table(plain, masked))
        if noted := made_otherwise(plain, masked):
            logger.warning("%s", noted)


def not_comparable(plain, masked, but=()):
    """In what the records of two evaluations differ, so that they must not be compared; "" if they may.

    Args:
        plain, masked: the records.
        but: keys that may differ.
    """
    a, b = (_compared(record) for record in (plain, masked))
    said = [_difference(key, a.get(key), b.get(key)) for key in {**a, **b} if key not in but and a.get(key) != b.get(key)]
    if not (plain.get("training") and masked.get("training")) and not said:
        said.append("an earlier version evaluated them, and does not say how they were trained")
    return ", ".join(said)


def _compared(record):
    """What must be the same in two evaluations; options that evaluation and training both have stand there twice."""
    own = {**{key: record.get(key) for key in COMPARED}, "top_k": top_k_of(record)}
    return {**own, **{f"training {key}" if key in own else key: value for key, value in record.get("training", {}).items()}}


def _difference(key, a, b):
    if key == "candidates_sha256":
        return "other candidates"
    return f"other {key.split('_')[0]}" if key.endswith("_sha256") else f"{key} {a} against {b}"


def made_otherwise(plain, masked):
    """A line on what should change no figure by much, but is not alike in two evaluations: code, library, device."""
    a, b = (record.get("made_with", {}) for record in (plain, masked))
    said = ["other code" if key == "code" else _difference(key, a.get(key), b.get(key)) for key in {**a, **b}
            if a.get(key) != b.get(key)]
    return f"the two were evaluated with {', '.join(said)}; eval.py --overwrite evaluates anew" if said else ""


def top_k_of(record):
    """The length of the lists that an evaluation looked at."""
    return next((int(key.split("@")[1]) for key in record if key.startswith("hr@")), None)


def _check_log(path):
    """Raises InputError if the evaluation log is a file of another kind, to which no line must be added."""
    if path.exists():
        try:
            with open(path, encoding="utf-8") as file:
                ours = not (line := file.readline(100)) or re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  ", line)
        except UnicodeDecodeError:
            ours = False
        if not ours:
            raise InputError(f"--eval_file_name {path.name}: {path} is no evaluation log; choose another name")


def _evaluate(config, model, checkpoint, output, stage):
    begin = time.perf_counter()
    dataset = load_dataset(config)
    net, info = load_checkpoint(checkpoint, dataset, masked_settings(config), ratings_path(config, config.masked))
    candidates = evaluation_candidates(dataset, "test", config)
    counts = counting(candidates)
    if counts is not None:
        logger.info("%s candidates are their user's own test item once more, and do not count", f"{int((~counts).sum()):,}")
    start = time.perf_counter()
    scores = score(net, candidates, config.eval_batch_size)
    seconds = time.perf_counter() - start
    everything = used = np.ones(dataset.num_interactions, bool)
    result = metrics.all_metrics(scores, config.top_k, counts)
    game = {}
    if config.holdout > 1:  # what users disclose are the histories before a validation item
        decisions = read_decisions(config, dataset)
        unwillingness = load_unwillingness(dataset, config) if decisions is None else decisions.unwillingness
        weight = config.willingness_weight if decisions is None else decisions.weight
        used = decisions.disclosed if config.masked else everything
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
    users = pd.DataFrame({USER: dataset.user_ids, "rank": metrics.ranks(scores, counts),
                          "loss": metrics.mean_loss(scores, counts), "pos_loss": metrics.cross_entropy(scores)[:, 0]})
    with whole_file(output / users_file(model)) as temporary:
        write_csv(users, temporary)
    trained = {**info.get("settings", {}), **{key: info.get(key) for key in ("device", "mindspore")}}
    trained[HOLDOUT] = config.holdout  # the control that trains on validation items as well holds less out, and is to
    drawn = Path(config.eval_negatives).name if config.eval_negatives else "drawn"
    write_json(output / eval_file(model), {
        **result, "ratings_sha256": stage.depends["inputs"][RATINGS_FILE], "candidates": drawn,
        "candidates_sha256": hashlib.sha256(candidates.tobytes()).hexdigest(), "training": trained,
        "made_with": {key: stage.depends[key] for key in ("code", "mindspore", "device")},
        "seconds": time.perf_counter() - begin})
    line = "  ".join(f"{k} {v:.5g}" if isinstance(v, float) else f"{k} {v}" for k, v in result.items())
    with open(output / config.eval_file_name, "a", encoding="utf-8") as log:
        log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {line}\n")
    logger.info("%s on %s (%s): %s pairs scored in %.1f s", model, dataset.name, stage.depends["device"], f"{scores.size:,}",
                seconds)
    logger.info("%s", line)


def full_ranks(net, dataset, batch_size):
    """Rank of each user's test item among all items that the user has not touched before.

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


def comparison_rows(plain, masked):
    """The results of both models: rows of (metric, plain, masked, change) as text, and how good each change is.

    Both rewards are at the price of the masked one: the plain model may have been evaluated before that was known.

    Returns:
        rows: list of tuples.
        better: list of 1 (the change is for the better), -1 (for the worse) or 0, for each row.
    """
    rows, better = [], []
    if (weight := masked.get("willingness_weight")) is not None:
        plain = {**plain, "willingness_weight": weight, "reward": -plain["loss"] - weight * plain["wv"]}
    for key in masked:
        a, b = plain.get(key), masked[key]
        if key in ("model", "epoch", "seconds", "training", "made_with", *COMPARED[:-1]) or a is None or b is None:
            continue
        if isinstance(b, int):
            rows.append((key, f"{a:,}", f"{b:,}", f"{b - a:+,}"))
        else:
            digits = ".3g" if key == "willingness_weight" else ".4f"
            rows.append((key, format(a, digits), format(b, digits), format(b - a, "+" + digits)))
        sign = 1 if key.startswith(HIGHER_IS_BETTER) else -1 if key.startswith(LOWER_IS_BETTER) else 0
        better.append(int(np.sign(b - a)) * sign)
    return rows, better


def comparison_table(plain, masked):
    """The results of both models side by side, with the change, as text for a terminal."""
    rows, better = comparison_rows(plain, masked)
    rows.insert(0, ("", plain["model"], masked["model"], "change"))
    widths = [max(len(row[k]) for row in rows) for k in range(4)]
    lines = []
    for row, good in zip(rows, [0, *better]):
        cells = [f"{cell:<{w}}" if k == 0 else f"{cell:>{w}}" for k, (cell, w) in enumerate(zip(row, widths))]
        if good:
            cells[3] = paint(cells[3], "green" if good > 0 else "red")
        lines.append("  ".join(cells))
    ruler = "-" * len(lines[0])
    title = paint(f"{plain['dataset']}: test items, plain against masked", "bold")
    return Painted("\n".join([ruler, title, ruler, lines[0], ruler, *lines[1:], ruler]))
