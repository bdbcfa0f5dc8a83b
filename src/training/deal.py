"""Users dealt out to ranks, in the blocks by which influence negatives are drawn. See docs/maths.md, section 11.

Each rank gets a file with the interactions of its own users alone; of the others it knows how long their histories are.
"""
from __future__ import annotations

import contextlib
import dataclasses
from itertools import islice
from pathlib import Path

import numpy as np

from ..common.errors import InputError
from ..common.share import DRAWN_TOGETHER, Part, by_length, cut
from ..common.variant import dataset_folder
from ..config import Config
from ..consent.allowed import NONE_DROPPED, WAITS, Consent, Dropped
from ..consent.unwillingness import load_stated
from ..dataset import Dataset, load_dataset

FEW = 4  # blocks a rank, below which blocks are shared out
_EVERYONE, _OWN = "everyone.npz", "share_{}.npz"
_STATED = "value", "line"  # see unwillingness.stated


def owners(length: np.ndarray, ranks: int) -> np.ndarray:
    """(num_users,) the rank that owns each user: whole blocks to the rank that has the fewest interactions so far.

    Of few blocks each is shared out user by user, so that all ranks have about as much to do.

    Args:
        length: (num_users,) training interactions.
        ranks: number.

    Raises:
        InputError: there are fewer users than ranks.
    """
    blocks = list(cut(by_length(length), length, DRAWN_TOGETHER))
    if sum(map(len, blocks)) < ranks:
        raise InputError(f"--ranks {ranks}: only {sum(map(len, blocks))} users have training interactions; give fewer ranks")
    owner, load = np.full(len(length), -1), np.zeros(ranks)
    few = len(blocks) < FEW * ranks
    for block in blocks if few else sorted(blocks, key=lambda users: -length[users].sum()):
        owner[block] = np.arange(len(block)) % ranks if few else load.argmin()
        load += np.bincount(owner[block], length[block], ranks)
    rest = np.flatnonzero(owner < 0)  # without training interactions
    owner[rest] = np.arange(len(rest)) % ranks
    return owner


def deal(config: Config, masked: bool, folder: Path, consent: Consent | None = None,
         unwillingness: bool = False) -> Dataset:
    """Reads the dataset that the settings name, or its masked twin, and writes each rank's share of it to `folder`.

    Args:
        config, masked, consent: see load_dataset, whose Dataset is returned; also ranks, of which there may be too many.
        folder: that ranks are started with.
        unwillingness: whether they need to know it, each that of their own users.
    """
    dataset = load_dataset(config, masked, consent)
    length = np.bincount(dataset.user, minlength=dataset.num_users)
    owner = owners(length, config.ranks)
    dropped = dataset.dropped or NONE_DROPPED
    listed = length + np.bincount(dropped.user[dropped.why != WAITS], minlength=len(length))
    np.savez(folder / _EVERYONE, users=dataset.user_ids, items=dataset.item_ids, owner=owner, length=length, listed=listed,
             rows_sha256=dataset.rows_sha256())
    if unwillingness:
        dataset.stated = load_stated(dataset, config)
    place, first = np.zeros(len(owner), np.int32), np.cumsum(length) - length
    for rank in range(config.ranks):
        users = np.flatnonzero(owner == rank)
        place[users] = np.arange(len(users))
        own, gone = owner[dataset.user] == rank, dropped.of(owner[dropped.user] == rank)
        gone.before += ((np.cumsum(length[users]) - length[users])[place[gone.user]] - first[gone.user]).astype(np.int64)
        gone.user = place[gone.user]
        stated = {} if dataset.stated is None else dict(zip(_STATED, (values[own] for values in dataset.stated)))
        np.savez(folder / _OWN.format(rank), user=place[dataset.user[own]], item=dataset.item[own], rows=dataset.rows[own],
                 test=dataset.test[users], held=dataset.held_out[users], **stated,
                 **({} if dataset.validation is None else {"validation": dataset.validation[users]}),
                 **{f"dropped_{name}": values for name, values in vars(gone).items()})
    return dataset


def join(folder: Path, parts: list[str], path: Path) -> None:
    """Writes to `path` the lines of all ranks' tables about their own interactions, as one process would have written them.

    Args:
        folder: as `deal` had it.
        parts: names in it of the tables, rank by rank, of a header and a line for each interaction, ordered by user; those
            that take no part are among them, but those that wait.
        path: of the whole table, which is written.
    """
    with np.load(folder / _EVERYONE, allow_pickle=True) as every:
        owner, length = every["owner"].tolist(), every["listed"].tolist()
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(open(folder / name, "rb")) for name in parts]
        whole = stack.enter_context(open(path, "wb"))
        header, *_ = [file.readline() for file in files]
        whole.write(header)
        for rank, lines in zip(owner, length):
            whole.writelines(islice(files[rank], lines))


def load_share(config: Config, masked: bool, folder: Path, exchange) -> Dataset:
    """The Dataset of a rank's own users, from what `deal` wrote.

    Args:
        config, masked, folder: as `deal` had them.
        exchange: Exchange.
    """
    rank = exchange.rank
    with np.load(folder / _EVERYONE, allow_pickle=True) as every:
        share = Part(rank, config.ranks, every["owner"], every["length"], every["users"], exchange)
        share.rows_sha256 = str(every["rows_sha256"])
        ids = share.own(share.user_ids), every["items"]
    with np.load(folder / _OWN.format(rank)) as own:
        dropped = Dropped(**{field.name: own[f"dropped_{field.name}"] for field in dataclasses.fields(Dropped)})
        return Dataset(dataset_folder(config, masked).name, *ids, own["user"], own["item"], own["rows"], None,
                       share, own.get("validation"), own["test"], own["held"], dropped if len(dropped.user) else None,
                       stated=tuple(own[name] for name in _STATED) if _STATED[0] in own else None)
