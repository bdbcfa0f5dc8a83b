import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from src.ranks.exchange import Ended, Exchange

SIZE = 3


@pytest.fixture
def connected(monkeypatch):
    """connected(work) -> what work(exchange) returns, or the Ended that it raises, in each of three ranks on two hosts."""
    barrier, told, mine = threading.Barrier(SIZE), [None] * SIZE, threading.local()

    class AllGather:
        def __call__(self, tensor):
            told[mine.rank] = tensor.asnumpy()
            barrier.wait(20)
            import mindspore
            return mindspore.Tensor(np.concatenate(told))
    monkeypatch.setattr("mindspore.ops.AllGather", AllGather)

    def run(work):
        def rank(k):
            mine.rank = k
            exchange = Exchange(k, SIZE, 2, "127.0.0.1")
            try:
                return work(exchange)
            except Ended as e:
                exchange.tell_end(*e.args)
                return e.args
            finally:
                for one in exchange.others.values():
                    one.close()
        with ThreadPoolExecutor(SIZE) as pool:
            return list(pool.map(rank, range(SIZE)))
    return run


def test_each_hears_all_in_the_order_of_ranks(connected):
    def work(exchange):
        wide = exchange.each(np.full((2, 300_000), exchange.rank, np.int16))
        return exchange.each(np.float64(exchange.rank)).tolist(), wide.mean((1, 2)).tolist(), \
            exchange.each(np.zeros((0, 4))).shape, bytes(exchange.of_first(b"first"[:9 * (exchange.rank == 0)]))
    assert connected(work) == [([0, 1, 2], [0, 1, 2], (3, 0, 4), b"first")] * SIZE


def test_all_hear_how_one_has_ended(connected):
    def refuse(exchange):
        if exchange.rank == 2:
            raise Ended(2, "two: is wrong")
        exchange.each(np.zeros(1))
    assert connected(refuse) == [(2, "two: is wrong")] * SIZE


def test_a_rank_that_is_gone_is_named(connected):
    def leave(exchange):
        if exchange.rank < 2:
            exchange.each(np.zeros(1))
    found = connected(leave)
    assert found[0] == found[1] and found[0][0] == 2 and found[0][1].startswith("rank 2 of 3 on host 1 has ended")


def test_who_is_silent_is_known_from_the_scheduler(connected, tmp_path, monkeypatch):
    monkeypatch.setattr("src.ranks.exchange.WAIT", 0.1)
    (tmp_path / "log").write_text("[ERROR] The node: 1 is timed out. It may exit")

    def lose(exchange):
        if exchange.rank == 1:
            return exchange.of_first(b"")
        found = exchange.heard(tmp_path / ("log" if exchange.rank == 0 else "of another host")).args[1]
        exchange.of_first(b"")
        return found[:30]
    assert connected(lose)[::2] == ["rank 1 of 3 on host 0 gives no", "rank 0 of 3 on host 0 gives no"]
