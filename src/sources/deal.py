"""Users dealt out to ranks, in the blocks by which influence negatives are drawn. See docs/maths.md, section 11.

Each rank gets a file with the interactions of its own users alone; of the others it knows how long their histories are.
"""
from __future__ import annotations

import contextlib
from itertools import islice
from pathlib import Path

import numpy as np

from ..common.errors import InputError
from ..common.files import atomic_write
from ..common.share import DRAWN_TOGETHER, Part, by_length, cut
from ..common.variant import ratings_path
from ..config import Config
from ..dataset import Dataset, Ids, read_interactions, split
from .unwillingness import load_unwillingness

FEW = 4  # blocks a rank, below which blocks are shared out
_EVERYONE, _OWN = "everyone.npz", "share_{}.npz"


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


def deal(config: Config, masked: bool, folder: Path, unwillingness: bool = False) -> Ids:
    """Reads the dataset that the settings name, or its masked twin, and writes each rank's share of it to `folder`.

    Args:
        config: also ranks and holdout.
        masked: whether it is the twin.
        folder: that ranks are started with.
        unwillingness: whether they need to know it, each that of their own users.

    Returns:
        The ids of all users and items.

    Raises:
        InputError: as load_dataset does, or there are too many ranks.
    """
    ids, (user, item, time) = read_interactions(config, masked)
    length = np.bincount(user, minlength=len(ids.users)) - config.holdout
    owner = owners(length, config.ranks)
    np.savez(folder / _EVERYONE, users=ids.users, items=ids.items, owner=owner, length=length)
    value = None
    if unwillingness:
        whole = split(ratings_path(config, masked).parent.name, ids, (user, item, time), config.holdout)
        value, of_rank = load_unwillingness(whole, config), owner[whole.user]
    place = np.zeros(len(owner), np.int32)
    for rank in range(config.ranks):
        mine = np.flatnonzero(owner == rank)
        place[mine] = np.arange(len(mine))
        rows = np.flatnonzero(owner[user] == rank)
        extra = {} if value is None else {"unwillingness": value[of_rank == rank]}
        np.savez(folder / _OWN.format(rank), user=place[user[rows]], item=item[rows].astype(np.int32), time=time[rows],
                 rows=rows, **extra)
    return ids


def join(folder: Path, parts: list[str], path: Path) -> None:
    """Writes to `path` the lines of all ranks' tables about their own interactions, as one process would have written them.

    Args:
        folder: as `deal` had it.
        parts: names in it of the tables, rank by rank, of a header and a line for each interaction, ordered by user.
        path: of the whole table.
    """
    with np.load(folder / _EVERYONE, allow_pickle=True) as every:
        owner, length = every["owner"].tolist(), every["length"].tolist()
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(open(folder / name, "rb")) for name in parts]
        temporary = stack.enter_context(atomic_write(path))
        whole = stack.enter_context(open(temporary, "wb"))
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
        ids = Ids(share.own(share.user_ids), every["items"])
    path = folder / _OWN.format(rank)
    with np.load(path) as own:
        ratings = own["user"], own["item"], own["time"]
        dataset = split(ratings_path(config, masked).parent.name, ids, ratings, config.holdout)
        rows = own["rows"]
        share.unwillingness = own.get("unwillingness")
    dataset.rows, dataset.held.rows = rows[dataset.rows], rows[dataset.held.rows]
    dataset.share = share
    return dataset
