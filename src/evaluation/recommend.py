"""Recommendations of a trained model: the items that a user has not had yet, best first."""
import json
import logging

import numpy as np

from ..common.terminal import RESULT, paint, printable
from ..constants import GENRES, ITEM, USER
from ..dataset import find_users, load_catalogue, load_dataset, original_id
from ..device_adapter import set_device
from ..ncf import score_all
from ..stat_utils import sigmoid
from ..training.checkpoint import load_checkpoint

logger = logging.getLogger("ifrqe")


def load_model(dataset, variant):
    """NCF of a Variant.

    Raises:
        InputError: its checkpoint is not there or does not fit.
    """
    return load_checkpoint(variant.checkpoint, dataset, variant)[0]


def top_items(net, users, dataset, k, batch_size):
    """The k best items of each user among those that the user has not had, held-out ones included.

    What is withheld is left out too: the user knows it, though the masked model does not.

    Args:
        net: NCF.
        users: (u,) int positions.
        dataset: Dataset of all that the users had.
        k: length of a list.
        batch_size: pairs scored in one call.

    Returns:
        A list with, for each user, the items (int array, k or as many as are left, best first) and their scores, the
        probabilities of an interaction that the model gives them. They order items; as the model sees `num_neg` negatives
        for each positive, they are no frequencies.
    """
    seen = dataset.all_pairs()
    everything = np.arange(dataset.num_items)
    lists = []
    for part, scores in score_all(net, users, dataset.num_items, batch_size):
        scores = np.where(seen.contains(part[:, None], everything), -np.inf, scores)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        for row, chosen in zip(scores, order):
            items = chosen[np.isfinite(row[chosen])]
            lists.append((items, sigmoid(row[items].astype(np.float64))))
    return lists


def recommend(variant):
    """Shows what the model of a Variant recommends to the users `recommend`.

    Raises:
        InputError: there is no such user, or the dataset or the checkpoint is missing or unfit.
    """
    config = variant.config
    dataset = load_dataset(config)
    users = find_users(dataset, config.recommend, "recommend")
    set_device(config)
    lists = top_items(load_model(dataset, variant), users, dataset, config.top_k, config.eval_batch_size)
    catalogue = load_catalogue(dataset, config)
    if config.format == "json":
        logger.log(RESULT, "%s", json.dumps({"model": variant.model, "dataset": config.dataset, "users": [
            {USER: original_id(dataset.user_ids, user), "items": as_records(found, dataset, catalogue)}
            for user, found in zip(users, lists)]}, indent=2, ensure_ascii=False))
        return
    for user, found in zip(users, lists):
        logger.log(RESULT, "%s",
                   paint(f"{config.dataset}, user {dataset.user_ids[user]}: {variant.model} recommends", "bold"))
        for row in as_records(found, dataset, catalogue):
            logger.log(RESULT, "%3d  %.4f  %s", row["rank"], row["score"], described(row))


def as_records(found, dataset, catalogue):
    """What top_items found for a user, as a list of dicts that JSON can hold."""
    return [{"rank": k + 1, ITEM: original_id(dataset.item_ids, item), "title": catalogue["title"][item],
             GENRES: catalogue[GENRES][item], "score": round(float(score), 6)}
            for k, (item, score) in enumerate(zip(*found))]


def described(row):
    """Title and genres of a record, for a terminal."""
    return printable(row["title"]) + (f"  ({printable(row[GENRES])})" if row[GENRES] else "")
