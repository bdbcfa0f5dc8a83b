import numpy as np
import pytest

from src.common.errors import InputError
from src.common.share import WHOLE, cut
from src.ranks import part as module
from src.ranks.part import Part, owners
from src.stat_utils import PairSet
from tests.ranks import in_threads

LENGTH = np.array([3, 0, 5, 2, 4, 1])
OWNER = np.array([0, 1, 1, 0, 1, 0])
PLACE = np.repeat(np.arange(6), LENGTH)  # the user of each interaction


def shares(monkeypatch, work):
    """What work(share) returns in each of two ranks."""
    monkeypatch.setattr(module, "owners", lambda *_: OWNER)

    def rank(exchange):
        share = Part(exchange.rank, 2, exchange).dealt(LENGTH, np.arange(6) + 10)
        return work(share.part(share.own(LENGTH), trains=True))
    return in_threads(2, rank)


def test_few_blocks_are_shared_out_and_many_are_kept_whole(monkeypatch):
    length = np.array([9, 8, 7, 6, 0, 5])
    assert np.bincount(owners(length, 2), length).tolist() == [21, 14]
    monkeypatch.setattr(module, "DRAWN_TOGETHER", 1)  # each user is a block
    monkeypatch.setattr(module, "FEW", 1)
    assert np.bincount(owners(length, 2), length).tolist() == [20, 15]  # each to the one with less
    assert set(owners(length, 5)[length > 0]) == set(range(5))
    with pytest.raises(InputError, match="--ranks 6: only 5 users"):
        owners(length, 6)


def test_cut_never_exceeds_what_is_asked_but_for_one_user():
    length = np.array([9, 4, 4, 3, 1])
    assert [list(part) for part in cut(np.arange(5), length, 8)] == [[0], [1, 2], [3, 4]]


def test_what_ranks_say_is_put_together_in_the_order_of_ranks_and_of_users(monkeypatch):
    values = np.arange(6) * 1.5
    wide = np.random.default_rng(0).random((6, 2, 5000))
    assert all(np.array_equal(found, wide) for found in shares(monkeypatch, lambda share: share.of_all(share.own(wide))))
    found = shares(monkeypatch, lambda share: (
        share.each(np.array([share.rank, 7])), share.total(share.own(values).sum()), share.of_all(share.own(values)),
        share.either(np.arange(11) % 5 == share.rank), share.first))
    for rank, (each, total, everyone, either, first) in enumerate(found):
        assert each.tolist() == [[0, 7], [1, 7]] and first == (rank == 0)
        assert total == values.sum() and everyone.tolist() == values.tolist()
        assert either.tolist() == (np.arange(11) % 5 < 2).tolist()


def test_a_table_comes_in_parts_in_the_order_of_users(monkeypatch):
    monkeypatch.setattr("src.stat_utils.BLOCK", 6)
    table = {"number": np.arange(15), "flag": PLACE % 2 == 0}

    def work(share):
        own = OWNER[PLACE] == share.rank
        mine = {name: values[own] for name, values in table.items()}
        return list(share.rows(share.place[PLACE[own]], lambda rows: {name: mine[name][rows] for name in mine}))
    for parts in shares(monkeypatch, work):
        assert [len(users) for users, _ in parts] == [3, 5, 6, 1]
        assert np.concatenate([users for users, _ in parts]).tolist() == PLACE.tolist()
        for name, values in table.items():
            assert np.concatenate([columns[name] for _, columns in parts]).tolist() == values.tolist()
    ((users, whole),) = WHOLE.rows(PLACE, lambda rows: {name: values[rows] for name, values in table.items()})
    assert users.tolist() == PLACE.tolist() and whole["number"].tolist() == table["number"].tolist()


def test_pairs_are_those_of_all(monkeypatch):
    items = np.arange(15) % 4

    def work(share):
        own = OWNER[PLACE] == share.rank
        pairs = share.pairs(PairSet([(share.place[PLACE[own]], items[own])], len(share.users), 4))
        return pairs.counts, pairs.contains(np.arange(6)[:, None], np.arange(4))
    whole = PairSet([(PLACE, items)], 6, 4)
    for counts, found in shares(monkeypatch, work):
        assert counts.tolist() == whole.counts.tolist()
        assert found.tolist() == whole.contains(np.arange(6)[:, None], np.arange(4)).tolist()


def test_a_rank_knows_the_places_of_its_own_interactions(monkeypatch):
    for rank, found in enumerate(shares(monkeypatch, lambda share: share.positions(0))):
        assert found.tolist() == np.flatnonzero(OWNER[PLACE] == rank).tolist()


def test_the_share_of_a_part_of_the_interactions_has_its_own_places_and_blocks(monkeypatch):
    kept = np.array([2, 0, 5, 1, 0, 1])

    def work(share):
        part = share.part(share.own(kept))
        assert share.part(share.own(LENGTH)) is share
        return part.positions(0), part.blocks(share.own(kept)), share.blocks(share.own(LENGTH))
    first, second = shares(monkeypatch, work)
    assert first[0].tolist() == [0, 1, 7, 8] and second[0].tolist() == [2, 3, 4, 5, 6]
    assert [k for k, _ in first[1] + second[1]] == [0, 1]  # different generators
    # user 2 has the longest history; ranks see their own users of the one block, from the longest down
    assert [[users.tolist() for _, users in one[2]] for one in (first, second)] == [[[0, 1, 2]], [[1, 2]]]


def test_steps_get_about_as_many_groups_of_each_rank_and_some_get_none():
    """Few interactions in many steps, which two ranks number each for itself."""
    found = in_threads(2, lambda exchange: Part(exchange.rank, 2, exchange).spread(6, 9, 3 + 5 * exchange.rank))
    for (starts, everyone, most), counts in zip(found, ([0, 1, 0, 1, 0, 1], [1, 1, 2, 1, 1, 2])):
        assert np.diff(starts).tolist() == counts and everyone.tolist() == [1, 2, 2, 2, 1, 3] and most == 2
