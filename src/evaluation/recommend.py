"""Recommendations of a trained model: the items that a user has not had yet, best first."""
import json
from collections.abc import Iterator

import numpy as np
import pandas as pd

from ..common.terminal import RESULT, logger, paint, printable
from ..common.variant import Variant
from ..constants import GENRES, ITEM, TITLE, USER
from ..dataset import Dataset
from ..device_adapter import set_device
from ..game.decisions import dataset_of
from ..history import History
from ..network import Network, score_all
from ..sources.catalogue import find_users, load_catalogue, original_id
from ..stat_utils import sigmoid
from .personal import load_serving


class Answer(dict):
    """A dict that JSON can hold; each kind of answer says in which lines a person reads it."""

    def lines(self) -> Iterator[str]:
        """The lines for a terminal; of what is not Painted, whatever could steer one is escaped."""
        raise NotImplementedError

    def show(self, form: str) -> None:
        """Shows it as `form` says: "json", or anything else for the lines."""
        for line in [json.dumps(self, indent=2, ensure_ascii=False)] if form == "json" else self.lines():
            logger.log(RESULT, "%s", line)


def top_items(net: Network, users: np.ndarray, dataset: Dataset, k: int,
              batch_size: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The k best items of each of the users (u,) among those that the user has not had, withheld and held out ones included.

    Returns: For each user the items, best first, fewer than k where no more are left, and their scores: the probabilities of
        an interaction that the model gives them, which order items; with `num_neg` negatives for each positive they are no
        frequencies.
    """
    lists = []
    for part, scores in score_all(net, users, dataset.num_items, batch_size):
        for row, items in zip(scores, best_items(scores, have_had(part, dataset), k)):
            lists.append((items, sigmoid(row[items].astype(np.float64))))
    return lists


def best_items(scores: np.ndarray, had: np.ndarray, k: int) -> list[np.ndarray]:
    """For each row of (u, num_items) scores the k best items, best first, of those not `had`, (u, num_items) bool."""
    order = np.argsort(-np.where(had, -np.inf, scores), axis=1, kind="stable")[:, :k]
    return [items[~gone[items]] for items, gone in zip(order, had)]


def have_had(users: np.ndarray, dataset: Dataset) -> np.ndarray:
    """(u, num_items) bool: the items that each of (u,) users has had, held-out, vetoed and withdrawn ones included."""
    had = np.zeros((len(users), dataset.num_items), bool)
    for some in (dataset,) if dataset.dropped is None else (dataset, dataset.dropped):
        history = History(some.user, dataset.num_users)
        had[history.owners(users), some.item[history.of_users(users)]] = True
    for items in filter(lambda items: items is not None, (dataset.test, dataset.validation)):
        row = np.flatnonzero(items[users] >= 0)
        had[row, items[users[row]]] = True
    return had


def recommend(variant: Variant) -> None:
    """Shows what the model of a Variant recommends to the users `recommend`, with the user rows that --personal names.

    Raises InputError: there is no such user, or the dataset or the checkpoint is missing or unfit.
    """
    config = variant.config
    dataset = dataset_of(variant)
    users = find_users(dataset, config.recommend, "recommend")
    set_device(config)
    serving = load_serving(dataset, variant)
    lists = top_items(serving.net, users, dataset, config.top_k, config.eval_batch_size)
    catalogue = load_catalogue(dataset, config)
    answers = [{USER: original_id(dataset.user_ids, user), "items": as_records(found, dataset, catalogue)}
               for user, found in zip(users, lists)]
    answer = Recommendations(model=variant.model, dataset=config.dataset, personal=serving.personal, users=answers)
    answer.show(config.format)


class Recommendations(Answer):
    """The lists of some users, by the key `users`, and which model they are of."""

    def lines(self) -> Iterator[str]:
        rows = " with personal rows" if self["personal"] else ""
        for user in self["users"]:
            yield paint(f"{self['dataset']}, user {user[USER]}: {self['model']}{rows} recommends", "bold")
            yield from map(line_of, user["items"])


def line_of(row: dict) -> str:
    return f"{row['rank']:3d}  {row['score']:.4f}  {described(row)}"


def as_records(found: tuple[np.ndarray, np.ndarray], dataset: Dataset, catalogue: pd.DataFrame) -> list[dict]:
    """What top_items found for a user, as a list of dicts that JSON can hold."""
    return [{"rank": k + 1, **named(item, dataset, catalogue), "score": round(float(score), 6)}
            for k, (item, score) in enumerate(zip(*found))]


def named(item: int, dataset: Dataset, catalogue: pd.DataFrame) -> dict:
    """Original id, title and genres of an item, as JSON can hold them."""
    return {ITEM: original_id(dataset.item_ids, item), TITLE: catalogue[TITLE][item], GENRES: catalogue[GENRES][item]}


def described(row: dict) -> str:
    """Title and genres of a record, for a terminal."""
    return printable(row[TITLE]) + (f"  ({printable(row[GENRES])})" if row[GENRES] else "")
