"""Leave-one-out split of a dataset folder.

What its user has vetoed or withdrawn is left out first. Of what is left the last interaction of each user is their test
item, the second-last their validation item, all before them their history. With `holdout` 1, as in the NCF literature, the
history takes in the second-last too and there is no validation item. With 0, for use in a product, nothing is held out:
all is in the history. See docs/maths.md, section 1.
"""
from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass

import numpy as np

from .common.errors import InputError
from .common.share import here
from .common.terminal import counted, logger
from .common.variant import REMEDY, dataset_folder, is_masked
from .config import Config
from .consent.allowed import TOO_FEW, VETO, WAITS, Consent, Dropped
from .consent.unwillingness import stated
from .consent.withdrawn import check_head, read_requests, taken_back, taken_since
from .constants import DATASET_FILE, HELD_OUT_FILE, HOLDOUT
from .sources.interactions import Ids, Interactions, ordered, read_interactions, read_masked
from .stat_utils import PairSet, parts, take

LEAST = 3  # interactions of a user of whom anything is known where nothing is held out: one of them to learn from, and two


@dataclass
class Dataset(Interactions):
    """Interactions that may be used, split by time: `user`, `item` and `rows` are the training interactions.

    validation: (num_users,) int32, the validation items, -1 for none; None if only the test item is held out.
    test: (num_users,) int32, the test items, -1 for none; None for those that may not look at them.
    held_out: (num_users, holdout) int32, rows of ratings.csv of both, in order of time, -1 for none; None where there is no
        such file.
    dropped: Dropped; None for none.
    consent: Consent that it was split with.
    stated: what unwillingness.stated says of the training interactions, where it had to be asked; else None.
    place: (n,) int, the place of each training interaction in the histories of all users that there would be if none were
        dropped; None for their own places.
    """
    validation: np.ndarray | None = None
    test: np.ndarray | None = None
    held_out: np.ndarray | None = None
    dropped: Dropped | None = None
    consent: Consent = dataclasses.field(default_factory=Consent)
    stated: tuple | None = None
    place: np.ndarray | None = None

    @property
    def scored(self) -> np.ndarray:
        """(k,) int32, the users of whom something is held out: all but those of whom too little may be used."""
        return np.flatnonzero((self.test if self.test is not None else self.validation) >= 0).astype(np.int32)

    @property
    def taking_part(self) -> np.ndarray:
        """(num_users,) bool, who is `scored` or, where nothing is held out of anyone, has interactions."""
        return self.test >= 0 if self.held_out.shape[1] else self.history.length > 0

    @property
    def held_pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """(h,) users and items of all that is held out."""
        held = [items for items in (self.test, self.validation) if items is not None]
        users, items = np.tile(np.arange(self.num_users, dtype=np.int32), len(held)), np.concatenate(held)
        return users[items >= 0], items[items >= 0]

    @property
    def informed(self) -> np.ndarray:
        """(n,) bool: the interactions of users of whom there is something to tell by what they are worth to them."""
        return self.history.each((self.history.length >= LEAST) | (self.validation is not None))

    @property
    def yardstick(self) -> np.ndarray:
        """(n,) bool: what takes the place of validation items where there are none: the last one of who is `informed`."""
        return self.informed & (self.history.from_end == 0) & (self.validation is None)

    def deciding(self) -> Dataset:
        """What a model that decides is trained on: all but what stands in for validation items, which are its own then."""
        if self.validation is not None:
            return self
        last, validation = self.yardstick, np.full(self.num_users, -1, np.int32)
        validation[self.user[last]] = self.item[last]
        return dataclasses.replace(self.part(~last), validation=validation, test=None, held_out=None, dropped=self.dropped)

    @property
    def all_interactions(self) -> int:
        """Training interactions of all users."""
        return int(here().total(self.num_interactions))

    def of_scored(self, values: np.ndarray) -> np.ndarray:
        """(all that are scored, ...) of what is said about these `scored`."""
        whole = np.zeros((self.num_users, *values.shape[1:]), values.dtype)
        whole[there := self.scored] = values
        return self.of_all(whole)[self.of_all(np.isin(np.arange(self.num_users), there))]

    def catalogue_sha256(self) -> str:
        """Digest of the users and items behind the positions: models of others are not models of this dataset."""
        names = ["\n".join(map(str, ids)) for ids in (self.all_user_ids, self.item_ids)]
        return hashlib.sha256("\0".join(names).encode("utf-8", "surrogatepass")).hexdigest()

    def rows_sha256(self) -> str:
        """Digest of which rows of ratings.csv are trained on, and which are held out."""
        return hashlib.sha256(self.uses()).hexdigest()

    def uses(self, number: int = 0, disclosed: np.ndarray | None = None) -> np.ndarray:
        """(rows,) int8 of rows of ratings.csv, at least `number`: 1 for what is trained on, or of that (n,) bool disclosed.

        2 for what is held out, and 0 for all else.
        """
        held = self.held_out[self.held_out >= 0]
        last = here().each(max(self.rows.max(initial=-1), held.max(initial=-1))).max()
        used = np.zeros(max(number, int(last) + 1), np.int8)
        for part in parts(self.num_interactions):
            used[self.rows[part]] = 1 if disclosed is None else disclosed[part]
        used[held] = 2
        trained, held = (here().either(used == use).view(np.int8) for use in (1, 2))
        return trained + 2 * held

    def part(self, kept: np.ndarray) -> Dataset:
        """The Dataset with (n,) bool `kept` training interactions; to it all others are of items that nobody has touched."""
        some = self.some(kept)
        some.share, some.dropped = self.share.part(some.history.length), None
        some.stated = None if self.stated is None else tuple(values[kept] for values in self.stated)
        some.place = None if self.place is None else self.place[kept]
        return some

    def history_pairs(self) -> PairSet:
        """PairSet of what training negatives avoid: the training interactions, and those that take no part."""
        return self._pairs((self.user, self.item))

    def all_pairs(self, of_scored: bool = False) -> PairSet:
        """PairSet of all that all users, or all `scored`, have had, held-out items too, which evaluation negatives avoid."""
        return self.share.pairs(self._pairs((self.user, self.item), self.held_pairs, of=self.scored if of_scored else None))

    def _pairs(self, *pairs, of=None):
        if self.dropped is not None:
            pairs = *pairs, (self.dropped.user, self.dropped.item)
        if of is not None and len(of) < self.num_users:
            asked = np.isin(np.arange(self.num_users), of)
            pairs = [(user[chosen], item[chosen]) for user, item in pairs for chosen in [take(asked, user)]]
        return PairSet(pairs, self.num_users, self.num_items)


def without_test_items(dataset: Dataset) -> Dataset:
    """The Dataset as the files of others get it: without the test items, which nothing that decides may look at."""
    return dataclasses.replace(dataset, test=None, held_out=None)


def split(name: str, ids: Ids, ratings: tuple, holdout: int = 2) -> Dataset:
    """The split, see split_allowed, of (r,) positions of users and of items, and times; ties stay in their order."""
    return split_allowed(ordered(name, ids, ratings), holdout)


def split_allowed(whole: Interactions, holdout: int, why: np.ndarray | None = None, later: np.ndarray | int = 0,
                  said: tuple | None = None, spent: bool = False) -> Dataset:
    """Leave-one-out split of what may be used of interactions.

    holdout: items held out of each user, 0 to 2.
    why: (n,) int, why each takes no part, see Dropped; 0 for what may be used. None for all.
    later: (n,) int, the number of a request that came after the training that the split is of; 0 for none. What it took back
        takes no part, but the split of the others stays as it is; who has lost a held-out item is not scored.
    said: what unwillingness.stated says of all.
    spent: whether `whole` is of no use any more, so that its memory can be had.
    """
    history, dropped, place = whole.history, None, None
    if why is None and np.ndim(later) == 0 and (history.length >= holdout).all():
        held = (history.first + history.length)[:, None] - np.arange(holdout, 0, -1)
        in_history = np.ones(whole.num_interactions, bool)
        in_history[held] = False
    else:
        why = np.zeros(whole.num_interactions, np.int32) if why is None else why.astype(np.int32)
        left = np.cumsum(why == 0, dtype=np.int32)  # how many may be used, up to each
        scored = (number := history.sums(why == 0)) >= holdout
        why[(why == 0) & history.each(~scored)] = TOO_FEW
        held = np.full((whole.num_users, holdout), -1)
        last = np.cumsum(number)[scored][:, None] - np.arange(holdout)[::-1]
        held[scored] = np.searchsorted(left, last.astype(np.int32))
        np.copyto(why, later, where=why == 0)
        lost = scored & (why[held] > 0).any(1)
        waiting = held[lost].ravel()
        why[waiting[why[waiting] == 0]] = WAITS
        held[lost] = -1
        in_history = why == 0
        in_history[held[held >= 0]] = False
        if (gone := np.flatnonzero(why)).size:
            dropped = Dropped(whole.user[gone], whole.item[gone], whole.rows[gone], why[gone],
                              np.cumsum(in_history, dtype=np.int32)[gone],
                              np.zeros(len(gone), np.int32) if said is None else said[1][gone])
            place = np.cumsum(history.from_end >= holdout, dtype=np.int32)[in_history] - 1  # if none were dropped
    del history
    stated = None if said is None else tuple(values[in_history] for values in said)
    return Dataset(**_held(whole, held), dropped=dropped, place=place, stated=stated, **vars(whole.some(in_history, spent)))


def _held(interactions, place):
    """What a Dataset holds out, by name: what stands at (num_users, 0 to 2) places of Interactions; -1 for nothing."""
    item, rows = (np.full(place.shape, -1, np.int32) for _ in range(2))
    there = place >= 0
    item[there], rows[there] = interactions.item[place[there]], interactions.rows[place[there]]
    test = item[:, -1].copy() if place.shape[1] else np.full(len(place), -1, np.int32)
    return {"validation": item[:, 0].copy() if place.shape[1] == 2 else None, "test": test, "held_out": rows}


def load_dataset(config: Config, masked: bool = False, consent: Consent | None = None) -> Dataset:
    """Reads the dataset that the settings name, leaves out what may not be used, and splits the rest; or its masked twin.

    The one way in which anything is read that trains, decides, evaluates or is shown.
    config: data_path, dataset, holdout, and the options of unwillingness.
    masked: whether it is the twin, whose held-out interactions are those of the mask.
    consent: of something that was trained or decided: what is read is what it may have been trained on, without what was
        withdrawn since. None: of now, that is what --veto forbids, and all requests.
    Raises InputError: a file is missing or wrong, nothing is left, or an option contradicts what the dataset was made with.
    """
    requests = read_requests(config)
    if masked or (dataset_folder(config) / HELD_OUT_FILE).is_file() or is_masked(dataset_folder(config)):
        return _masked(config, masked, requests)
    dataset = allowed_part(read_interactions(config), config, requests, consent, spent=True)
    if dataset.dropped is not None:
        why = dataset.dropped.why
        logger.info("%s: %s take no part: %s vetoed, %s withdrawn, %s of users of whom too little is left", dataset.name,
                    counted(len(why), "interaction"), *(f"{part.sum():,}" for part in (why == VETO, why > 0, why < VETO)))
    return dataset


def allowed_part(whole: Interactions, config: Config, requests: list[dict], consent: Consent | None = None,
                 spent: bool = False) -> Dataset:
    """What load_dataset makes of all interactions of a dataset, where these requests were carried out; raises as it does."""
    number, said, vetoed, why, later = int(here().total(whole.num_interactions)), None, None, None, 0
    if config.veto:
        said = stated(whole, config, whole=True)
        vetoed = np.zeros(number, bool)
        for part in parts(whole.num_interactions):
            vetoed[whole.rows[part]] = said[0][part] == 1
        vetoed = here().either(vetoed)
    if consent is None:
        consent = Consent(vetoed, len(requests))
    elif consent.vetoed is not None and len(consent.vetoed) != number or \
            vetoed is not None and not consent.forbids_as(Consent(vetoed)):
        raise InputError(f"{dataset_folder(config)}: what is vetoed, or the ratings, have changed since this was trained or "
                         "decided; run train.py and preprocess.py anew, both with --veto and the same rules")
    if requests or consent.vetoed is not None:
        why = taken_back(whole, config, requests[:consent.requests])
        later = taken_since(whole, config, requests[consent.requests:])
    if consent.vetoed is not None:
        why[(why == 0) & take(consent.vetoed, whole.rows)] = VETO
    dataset = split_allowed(whole, config.holdout, why, later, said, spent)
    if not here().total(dataset.num_interactions + len(dataset.scored)):
        raise InputError("--veto: all is vetoed or withdrawn, so that nothing is left to train on; take back some")
    dataset.consent, dataset.share = consent, dataset.share.part(dataset.history.length, trains=True)
    return dataset


def _masked(config, masked, requests):
    """The Dataset of a folder that holds what may be trained on, and beside it what is held out."""
    folder = dataset_folder(config, masked)
    if config.veto and not masked:
        raise InputError(f"--veto: {folder} holds what a mask disclosed, and vetoes are for the dataset that it was made "
                         "from; leave it out")
    trained, held, record = read_masked(config, masked)
    known = len(requests)
    if dataset_folder(config) != folder and dataset_folder(config).exists():  # it was not given away alone
        known = check_head(record, requests, folder / DATASET_FILE)
    for part in (trained, held) if requests else ():
        if taken_back(part, config, requests[:known]).any() or taken_since(part, config, requests[known:]).any():
            raise InputError(f"{folder}: holds what was withdrawn since it was made, as an old copy does; {REMEDY}")
    history = held.history
    if record.get(HOLDOUT, config.holdout) != config.holdout or not np.isin(history.length, (0, config.holdout)).all():
        raise InputError(f"{folder / HELD_OUT_FILE}: is not of --holdout {config.holdout}, or lacks rows; give --holdout "
                         f"{record.get(HOLDOUT, 2)}, or run preprocess.py with --holdout {config.holdout}")
    place = np.where(history.length[:, None] > 0, history.first[:, None] + np.arange(config.holdout), -1)
    trained.share = trained.share.part(trained.history.length, trains=True)
    return Dataset(**vars(trained.some(slice(None))), **_held(held, place), consent=Consent(requests=len(requests)))
