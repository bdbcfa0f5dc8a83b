"""One call: a data frame in, a decision out. What the stages do with files, in memory, with nothing held out."""
from __future__ import annotations

import functools
import io
import logging
import time
from dataclasses import dataclass

import numpy as np
import pandas as pd

from .common.columns import clean_text, positions
from .common.errors import InputError
from .common.tables import read_stream
from .config import Config, load_config, unknown
from .consent.allowed import VETO
from .consent.rules import unwillingness_in
from .constants import DISCLOSED, ITEM, TIMESTAMP, UNWILLINGNESS, USER
from .dataset import Dataset, split_allowed
from .device_adapter import set_device
from .evaluation.recommend import top_items
from .game import preprocess
from .game.problem import load_problem
from .network import Network, build
from .options import KINDS, options_of
from .sources.checks import Arranged
from .sources.gather import Gathered
from .sources.interactions import Interactions
from .training.train import train_in_memory

logging.getLogger("ifrqe").addHandler(logging.NullHandler())  # else Python prints warnings for which nobody has asked

NAME = "interactions"  # in messages
_READ = {*options_of("model", "training", "negatives", "candidates", "influence", "chunks", "decision", "game"), "recipe",
         "duplicates", "veto", "eval_batch_size", "device_target", "device_id"} - {"patience", "wv_budget"}


@dataclass(repr=False)
class Answer:
    """What `decide` answers.

    frame: the data frame that was given, with a column `disclosed` (bool).
    record: dict, what preprocess.json says: wv, total_wv, spent_wv, willingness_weight, disclosed_share, seconds, ...
    whole, part: Dataset of all that may be disclosed, and of what is.
    ids: dict of the columns user_id and item_id to the ids of `whole`, as they stand in the frame.
    """
    frame: pd.DataFrame
    record: dict
    whole: Dataset
    part: Dataset
    ids: dict
    config: Config

    @functools.cached_property
    def model(self) -> Network:
        """The masked model, which is trained when it is first asked for; InputError if nothing is disclosed."""
        if not self.part.num_interactions:
            raise InputError("budget: nothing is disclosed within it, so that there is nothing to train on; raise it")
        net = build(self.part, self.config)
        net.set_values(train_in_memory(self.config, self.part, set_device(self.config))[0])
        return net

    def recommend(self, users: object, k: int = 10) -> pd.DataFrame:
        """The k best items for a user, or for each of several, among those that they have not had, withheld ones included.

        Returns: DataFrame user_id, item_id, score, best first; scores order items, see evaluation.recommend.top_items.
        Raises InputError: there is no such user, or nothing is disclosed.
        """
        names = [clean_text(user) for user in (users if pd.api.types.is_list_like(users) else [users])]
        at, known = positions(self.whole.user_ids, names), self.whole.user_ids
        if (at < 0).any():
            raise InputError(f"users: there is no user {names[(at < 0).argmax()]} in {NAME}; their ids are such as "
                             f"{', '.join(map(str, known[:3]))}")
        lists = top_items(self.model, at, self.whole, k, self.config.eval_batch_size) if len(at) else []
        rows = [(user, *pair) for user, found in zip(at, lists) for pair in zip(*found)]
        user, item, score = zip(*rows) if rows else ((), (), ())
        return pd.DataFrame({USER: self.ids[USER].take(user), ITEM: self.ids[ITEM].take(item), "score": score})


def decide(interactions: pd.DataFrame, unwillingness: float | str | np.ndarray | pd.Series | None = None,
           budget: float = 0.6, strategy: str = "ask-first", model: str = "ncf", seed: int = 1, **options: object) -> Answer:
    """Decides which interactions may train a recommender. Writes no file, holds nothing out, and leaves the frame as it is.

    interactions: DataFrame with user_id, item_id and perhaps timestamp, without which the order of the rows counts; columns
        may have other usual names, see docs/data.md. A pair may be there once; see duplicates="last".
    unwillingness: how little its user wants each interaction used, in [0, 1]: one value a row, the name of a column, or a
        number for all. None: the column unwillingness; without one it is drawn by seed, to try things out.
    budget: share of all unwillingness that may be violated, in (0, 1].
    strategy, model, seed, options: see docs/options.md; for example recipe="fast", train_epochs=5, or veto=True, with which
        unwillingness 1 forbids.
    Raises InputError: a ValueError of one line that names the argument, or the row, counted from 1.
    What the programs log goes to the logger "ifrqe".
    """
    start, config = time.perf_counter(), _settings(budget, strategy, model, seed, options)
    table = _read(interactions, unwillingness)
    b = table.get(UNWILLINGNESS, pd.Series(np.nan, table.index)).to_numpy()
    whole = Interactions(NAME, *Arranged(Gathered(NAME).take([table]), config.duplicates).in_memory())
    dataset = split_allowed(whole, 0, np.where(config.veto & (b[whole.rows] == 1), VETO, 0))
    if not dataset.num_interactions:
        raise InputError("veto: all is vetoed, so that nothing is left to train on; take back some")
    dataset.stated = b[dataset.rows], np.zeros(dataset.num_interactions, np.int32)
    config = config.replace(unwillingness="given" if UNWILLINGNESS in table else "uniform")
    decisions = preprocess.decide(load_problem(config, dataset), config, set_device(config))
    part = dataset.part(decisions.disclosed)
    disclosed = np.isin(np.arange(len(interactions)), part.rows)
    order = np.argsort(whole.rows)
    own = {column: interactions[table.attrs["header"][column]].array.take(whole.rows[order][np.unique(
        code[order], return_index=True)[1]]) for column, code in ((USER, whole.user), (ITEM, whole.item))}
    decisions.record["seconds"]["total"] = time.perf_counter() - start
    return Answer(interactions.assign(**{DISCLOSED: disclosed}), decisions.record, dataset, part, own, config)


def _settings(budget, strategy, model, seed, options):
    for key in sorted(options.keys() - _READ):
        raise InputError(f"{key}: " + ("does nothing in a call; leave it out" if key in KINDS else unknown(key, _READ)))
    named = dict(options, wv_budget=budget, strategy=strategy, model=model, seed=seed, holdout=0, dataset=NAME)
    return load_config([f"--{key}={value}" for key, value in named.items()])


def _read(interactions, unwillingness):
    """The columns that are of use, as the data stage would read them from the frame as CSV; unwillingness is checked."""
    try:
        if unwillingness is not None:
            given = interactions[unwillingness] if isinstance(unwillingness, str) else unwillingness
            interactions = interactions.assign(**{UNWILLINGNESS: given})
        text = interactions.to_csv(index=False).encode("utf-8", "surrogatepass")
    except (AttributeError, KeyError, ValueError) as e:
        raise InputError(f"{NAME}, {UNWILLINGNESS}: give a pandas DataFrame, and one value a row, a number or the name of a "
                         f"column ({e})") from e
    table = read_stream(io.BufferedReader(io.BytesIO(text)), len(text), NAME, [USER, ITEM, TIMESTAMP, UNWILLINGNESS],
                        [USER, ITEM], float_precision="round_trip")
    return table.assign(**{UNWILLINGNESS: unwillingness_in(table, NAME)}) if UNWILLINGNESS in table else table
