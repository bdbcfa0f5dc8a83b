"""What a dataset does not have yet: a CSV with user_id, item_id[, timestamp, rating, unwillingness], of any users."""
import dataclasses
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..common.columns import clean_ids, in_order, numbers, positions
from ..common.errors import InputError
from ..common.tables import existing_file, read_table
from ..common.terminal import counted, logger
from ..common.times import ORDER, in_unit, times
from ..config import Config
from ..constants import DRAWN, ITEM, RATING, RATINGS_FILE, TEXT_IDS, TIMESTAMP, UNWILLINGNESS, USER
from ..sources.interactions import Interactions, ordered, time_unit
from ..stat_utils import generator
from .rules import listed, refuse, unwillingness_in
from .unwillingness import stated, unwillingness_source


@dataclass
class Arrivals:
    """What is new, and where it stands among what was there.

    whole: Interactions, all that was there and what is new, whose `rows` are those that it would have in ratings.csv.
    table: DataFrame of the k that are new, in the order of these rows: the columns of ratings.csv.
    unwillingness: (k,) float64 in [0, 1].
    """
    whole: Interactions
    table: pd.DataFrame
    unwillingness: np.ndarray

    @property
    def stated(self) -> pd.DataFrame:
        """What is new as a table of unwillingness says it."""
        return self.table[[USER, ITEM]].assign(**{UNWILLINGNESS: self.unwillingness})


def read_arrivals(option: str, known: Interactions, config: Config, record: dict) -> Arrivals:
    """Reads the file that an option names; ties in time are broken by the order of the rows.

    What the dataset has already is passed over. So are unknown items; the log names them.
    option: "update"; or "newcomers", who are no users of the dataset, and may state unwillingness otherwise than it.
    known: all Interactions that are there; of newcomers the users and items alone count.
    config: the options of unwillingness where the file has no column of it; rules may name users of the file.
    Raises InputError: the file is missing or wrong, a pair is there twice, or a newcomer is none.
    """
    strangers = option == "newcomers"
    path = existing_file(getattr(config, option), f"give a CSV with {USER},{ITEM}[,{TIMESTAMP},{UNWILLINGNESS}]", option)
    table = read_table(path, [USER, ITEM, TIMESTAMP, RATING, UNWILLINGNESS], [USER, ITEM])
    if not len(table):
        raise InputError(f"{path}: holds no interactions; give at least one")
    users, items = (clean_ids(table[column], path, column) for column in (USER, ITEM))
    again = pd.DataFrame({USER: users, ITEM: items}).duplicated().to_numpy()
    refuse(again, path, "names its user and item once more; remove it")
    user, item = positions(known.user_ids, users), positions(known.item_ids, items)
    refuse((user >= 0) & strangers, path, f"names a user whom {known.name} already has: preprocess.py without --newcomers "
           "decides for them; remove it, or give them another id")
    time = _times(table, path, known, config, strangers)
    if len(unknown := items[item < 0]):
        logger.warning("%s: %s left out, since %s does not know their items: %s; give them once it does, after it was made "
                       "anew", path, counted(len(unknown), "row"), known.name, listed(pd.unique(unknown)))
    chosen = np.flatnonzero((item >= 0) & (known.places(user, item) < 0))
    if there := int((item >= 0).sum()) - len(chosen):
        logger.info("%s: %s there already, and stay as they were decided", path, counted(there, "row"))
    if strangers:
        known = dataclasses.replace(known.some(slice(0)), user_ids=known.user_ids[:0], time=np.zeros(0))
    names = known.user_ids.astype(str).astype(object)
    ids = in_order(np.unique(np.append(names, users[chosen])), USER in record.get(TEXT_IDS, ())), known.item_ids
    before = np.argsort(known.rows)  # in the order of the file, which breaks ties
    whole = ordered(known.name, ids, (
        np.append(positions(ids[0], names)[known.user[before]], positions(ids[0], users[chosen])),
        np.append(known.item[before], item[chosen]), np.append(known.time[before], time[chosen])))
    if TIMESTAMP not in table and strangers:
        whole.time = None  # no rule may ask for it
    rating = numbers(table[RATING], path, RATING) if RATING in table else np.ones(len(table), np.int64)
    columns = {USER: users, ITEM: items, RATING: rating, TIMESTAMP: time}
    return Arrivals(whole, pd.DataFrame(columns).iloc[chosen],
                    _unwillingness(table, path, option, config, record, whole, chosen))


def _times(table, path, known, config, strangers):
    if TIMESTAMP not in table:
        return (0 if strangers else known.time.max(initial=0)) + 1 + np.arange(len(table))
    (found, own), unit = times(table[TIMESTAMP], path), time_unit(config)
    if own != unit and (given := in_unit(found, own, unit)) is not None:  # as of dates
        found = np.round(given).astype(np.int64)
    if unit != ORDER and not strangers and times(pd.Series(np.r_[found, found, known.time.max() + 1]), path)[1] != unit:
        raise InputError(f"{path}: its times are not in {unit}, as those of {known.name} are; give them as {RATINGS_FILE} "
                         "has them")
    return found


def _unwillingness(table, path, option, config, record, whole, rows):
    """(k,) float64 in [0, 1] of (k,) rows of the table, the last ones of `whole`: by its column or else by the options."""
    source, own = unwillingness_source(config), option == "update"
    if own and source in ("ratings", "genres"):
        raise InputError(f"--unwillingness {source}: goes by a whole dataset, so that nothing can be added; make the mask "
                         "anew with another")
    if UNWILLINGNESS in table:
        if own and source != "file" and (config.unwillingness != "auto" or config.willingness_file):
            raise InputError(f"{path}: has a column {UNWILLINGNESS}, which the next mask would not go by, since "
                             f"--willingness_file or --unwillingness {source} states it for all; remove the column")
        b = unwillingness_in(table, path)[rows]
        if config.willingness_file and not own:
            logger.warning("%s: not used, since %s has a column %s", config.willingness_file, path, UNWILLINGNESS)
        if not (config.willingness_file and own):
            return b
    else:
        if source not in ("constant", "uniform", "willing") and not record.get(DRAWN) and len(rows):
            raise InputError(f"{path}: has no column {UNWILLINGNESS}, and --unwillingness {source} states that of the users "
                             "of a dataset only; add the column"
                             f"{'' if own else ', or say --unwillingness constant or uniform'}")
        logger.info("%s: has no column %s, so it is %s", path, UNWILLINGNESS, "0" if source == "willing" else source)
        b = generator(config.seed, "unwillingness of newcomers").random(len(table))[rows]
    last = np.argsort(whole.rows)[whole.num_interactions - len(rows):]
    said = stated(whole, config, whole=True)[0][last]  # rules may be about what was there
    return np.where(np.isnan(said), b, said)
