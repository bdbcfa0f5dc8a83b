import numpy as np

from src.common.share import WHOLE, Part, cut
from src.stat_utils import generator
from tests.ranks import in_threads

LENGTH = np.array([3, 0, 5, 2, 4, 1])
OWNER = np.array([0, 1, 1, 0, 1, 0])
PLACE = np.repeat(np.arange(6), LENGTH)  # the user of each interaction


def shares(work):
    """What work(share) returns in each of two ranks."""
    return in_threads(2, lambda exchange: work(Part(exchange.rank, 2, OWNER, LENGTH, np.arange(6) + 10, exchange)))


def test_cut_never_exceeds_what_is_asked_but_for_one_user():
    length = np.array([9, 4, 4, 3, 1])
    assert [list(part) for part in cut(np.arange(5), length, 8)] == [[0], [1, 2], [3, 4]]


def test_what_ranks_say_is_put_together_in_the_order_of_ranks_and_of_users():
    values = np.arange(6) * 1.5
    wide = np.random.default_rng(0).random((6, 2, 5000))
    assert all(np.array_equal(found, wide) for found in shares(lambda share: share.of_all(share.own(wide))))
    for rank, (each, total, everyone) in enumerate(shares(lambda share: (
            share.each(np.array([share.rank, 7])), share.total(share.own(values).sum()), share.of_all(share.own(values))))):
        assert each.tolist() == [[0, 7], [1, 7]], rank
        assert total == values.sum()
        assert everyone.tolist() == values.tolist()


def test_what_one_process_draws_is_what_ranks_draw():
    one = WHOLE.shuffled(generator(4, "y"), 15), WHOLE.positions(15)
    found = shares(lambda share: (share.shuffled(generator(4, "y"), 0), share.positions(0)))
    for rank, parts in enumerate(found):
        for whole, part in zip(one, parts):
            assert part.tolist() == whole[OWNER[PLACE] == rank].tolist()


def test_the_share_of_a_part_of_the_interactions_has_its_own_places_and_blocks():
    kept = np.array([2, 0, 5, 1, 0, 1])

    def work(share):
        part = share.part(share.own(kept))
        assert share.part(share.own(LENGTH)) is share
        return part.positions(0), part.blocks(share.own(kept)), share.blocks(share.own(LENGTH))
    first, second = shares(work)
    assert first[0].tolist() == [0, 1, 7, 8] and second[0].tolist() == [2, 3, 4, 5, 6]
    assert [k for k, _ in first[1] + second[1]] == [0, 1]  # different generators
    # user 2 has the longest history; ranks see their own users of the one block, from the longest down
    assert [[users.tolist() for _, users in one[2]] for one in (first, second)] == [[[0, 1, 2]], [[1, 2]]]


def test_a_part_that_takes_nothing_from_one_rank_is_a_part_to_it_too():
    kept = LENGTH - ((OWNER == 1) & (LENGTH > 0))

    def work(share):
        part = share.part(share.own(kept))
        return part is share, part.splits, part.positions(0)
    found = shares(work)
    assert [one[:2] for one in found] == [(False, False)] * 2
    assert sorted(np.concatenate([one[2] for one in found])) == list(range(kept.sum()))
