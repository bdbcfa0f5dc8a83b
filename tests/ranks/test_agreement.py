"""What several ranks do together is what one process does."""
import numpy as np
import pandas as pd
import pytest

from src.candidates import evaluation_candidates
from src.common.share import here
from src.consent.allowed import NONE_DROPPED, TOO_FEW, VETO
from src.consent.unwillingness import load_stated
from src.dataset import load_dataset
from src.game import ask_first
from src.game.decisions import Decisions, barred_by
from src.game.problem import load_problem
from src.game.strategies import Strategies
from src.influence.chunks import Chunks
from src.influence.expected import default_shrinkage, expected_influence
from src.influence.rows import prior_of
from src.mf import MF
from src.movielens import prepare
from src.network import build
from tests.ranks import as_ranks
from tests.small import SMALL

RANKS = 3


@pytest.fixture
def uneven(settings, tmp_path):
    """30 users with 3 to 15 of 40 items, rows in random order, ratings that tell them apart, from the data stage."""
    rng = np.random.default_rng(0)
    rows = [(f"u{u}", i, rng.integers(1, 6), rng.integers(9))
            for u in range(30) for i in rng.permutation(40)[:3 + u * 7 % 13]]
    rows = [rows[k] for k in rng.permutation(len(rows))]
    table = pd.DataFrame(rows, columns=["user_id", "item_id", "rating", "timestamp"])
    table.to_csv(tmp_path / "uneven.csv", index=False)
    prepare(settings("--archive", tmp_path / "uneven.csv"))
    return table


@pytest.fixture
def forbidding(uneven, settings, tmp_path):
    """forbidding(*options): settings with vetoes on all of u3's, all but one of u13's, and an item of everybody's."""
    first, second, _ = uneven[uneven.user_id == "u13"].item_id
    (tmp_path / "forbidden.csv").write_text("user_id,item_id,unwillingness\nu3,,1\n,5,1\n,,0.25\n"
                                            f"u13,{first},1\nu13,{second},1\n")
    return lambda *options: settings("--willingness_file", tmp_path / "forbidden.csv", "--veto", *options)


@pytest.fixture(params=[1, 100], ids=["blocks are shared out", "whole blocks"])
def blocks(request, monkeypatch):
    """How users are dealt: with blocks of few interactions there are enough for each rank."""
    if request.param > 1:
        for module in ("src.common.share", "src.ranks.part"):
            monkeypatch.setattr(f"{module}.DRAWN_TOGETHER", 15)
    return request.param


def put_together(parts, whole):
    """(n, ...) of what each rank has for its own interactions, as [(share, values)]."""
    result = np.empty((whole.num_interactions, *parts[0][1].shape[1:]), parts[0][1].dtype)
    for share, values in parts:
        result[share.positions(0)] = values
    return result


@pytest.mark.parametrize("veto", [False, True])
def test_a_rank_has_its_own_users_alone_and_all_together_are_the_dataset(forbidding, blocks, veto):
    config = forbidding(f"--veto={veto}")
    whole = load_dataset(config)
    gone, scored, seen = whole.dropped or NONE_DROPPED, whole.test[whole.scored].tolist(), []
    if veto:
        assert (gone.why == TOO_FEW).sum() == 1 and (gone.why == VETO).sum() > 10 and len(whole.scored) == 28

    def work():
        part = load_dataset(config)
        return part, part.of_scored(part.test[part.scored]).tolist(), part.rows_sha256()
    for part, everyones, digest in as_ranks(RANKS, work):
        users, own = part.share.users, part.dropped or NONE_DROPPED
        assert 0 < len(users) < whole.num_users and part.user_ids.tolist() == whole.user_ids[users].tolist()
        mine = np.isin(whole.user, users)
        assert part.item.tolist() == whole.item[mine].tolist() and part.rows.tolist() == whole.rows[mine].tolist()
        assert users[part.user].tolist() == whole.user[mine].tolist() and everyones == scored
        assert part.test.tolist() == whole.test[users].tolist() and part.held_out.tolist() == whole.held_out[users].tolist()
        assert digest == whole.rows_sha256()
        forbidden = np.isin(gone.user, users)
        assert users[own.user].tolist() == gone.user[forbidden].tolist()
        for name in ("item", "rows", "why", "line"):
            assert getattr(own, name).tolist() == getattr(gone, name)[forbidden].tolist()
        seen += [*part.rows, *own.rows]
    assert sorted(seen) == sorted([*whole.rows, *gone.rows])


@pytest.mark.parametrize("veto", [False, True])
def test_ranks_draw_and_list_what_one_process_does(forbidding, tmp_path, blocks, veto):
    config = forbidding(*SMALL, f"--veto={veto}")

    def work():
        data = load_dataset(config)
        chunks, items = Chunks(data, config), np.zeros((data.num_interactions, 3), np.int32)
        for k in range(len(chunks)):
            items[chunks.positions(k)] = chunks[k].items[chunks[k].inside]
        decisions = Decisions(data.rows % 2 == 0, data.item / 40, reason=pd.Categorical((data.rows % 3).astype(str)),
                              barred=barred_by(data.dropped, {}))
        decisions.write(tmp_path / f"{here().size}.csv", data) if here().first else list(decisions.listed(data))
        return data, items, evaluation_candidates(data, "test", config)
    whole, drawn, candidates = work()
    assert len(candidates) == len(whole.scored) == (28 if veto else 30)
    found = as_ranks(RANKS, work)
    for part, _, own in found:
        assert own.tolist() == candidates[np.isin(whole.scored, part.share.users)].tolist()
    assert put_together([(part.share, items) for part, items, _ in found], whole).tolist() == drawn.tolist()
    assert (tmp_path / f"{RANKS}.csv").read_bytes() == (tmp_path / "1.csv").read_bytes()
    assert len((tmp_path / "1.csv").read_text().splitlines()) == \
        1 + whole.num_interactions + (len(whole.dropped.user) if veto else 0)


@pytest.mark.parametrize("source", ["uniform", "ratings", "constant"])
def test_ranks_know_and_fit_what_one_process_does(forbidding, source):
    config = forbidding("--unwillingness", source)
    whole, rng = load_dataset(config), np.random.default_rng(0)
    influence, rows = rng.normal(size=(whole.num_interactions, 4)), rng.normal(size=(whole.num_users, 3))
    influence[:, 0] += influence[:, 1]

    def work():
        part = load_dataset(config)
        fitted, report = expected_influence(influence[part.share.positions(len(influence))], part)
        return (part.share, load_problem(config, part).unwillingness, fitted, prior_of(part.share.own(rows)),
                default_shrinkage(part), set(report))
    (_, _, expected, prior, shrinkage, _), found = work(), as_ranks(RANKS, work)
    assert put_together([one[:2] for one in found], whole).tolist() == load_stated(whole, config)[0].tolist()
    np.testing.assert_allclose(put_together([(one[0], one[2]) for one in found], whole), expected, rtol=1e-9, atol=1e-12)
    for *_, fitted, there, report in found:
        assert there == shrinkage and report == {"1", "2", "3"}
        np.testing.assert_allclose(fitted.mean, prior.mean, rtol=1e-12)
        np.testing.assert_allclose(fitted.precision, prior.precision, rtol=1e-9)


@pytest.mark.parametrize("flags", [[], ["--unwillingness", "constant"]])
def test_ranks_ask_first_as_one_process_does(cpu, uneven, settings, monkeypatch, flags):
    config = settings("--model", "mf", "--num_factors", 3, "--embedding_std", 1, *flags, "--instalments", ".3,.6,1")
    whole = load_dataset(config)
    model = build(whole, config).values()
    monkeypatch.setattr(ask_first, "FEW", 0)
    monkeypatch.setattr(ask_first.DecidingSide, "announce", lambda side: [MF.rows_by(side.share.own, model)])

    def work():
        part = load_dataset(config)
        found = Strategies(load_problem(config, part), None, config, "CPU")("ask-first", 0.6)
        return part.share, found.instalment, found.expected, found.record
    (_, instalment, wanted, one), found = work(), as_ranks(RANKS, work)
    assert set(instalment.tolist()) == {0, 1, 2, 3}
    assert put_together([each[:2] for each in found], whole).tolist() == instalment.tolist()
    expected = put_together([(each[0], each[2]) for each in found], whole)
    np.testing.assert_allclose(expected, wanted, rtol=1e-4, atol=1e-7)
    for key in ("instalment_wv", "instalment_weights"):
        for *_, record in found:
            assert record[key][0] == one[key][0] and record[key][1:] == pytest.approx(one[key][1:], rel=1e-4)
