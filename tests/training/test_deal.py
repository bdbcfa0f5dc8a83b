import numpy as np
import pandas as pd
import pytest

from src.candidates import evaluation_candidates
from src.common.errors import InputError
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
from src.network import build
from src.training import deal as deal_module
from src.training.deal import deal, join, load_share, owners
from tests.ranks import in_threads
from tests.small import SMALL


@pytest.fixture
def uneven(write_ratings):
    """30 users with 3 to 15 of 40 items, rows in random order, ratings that tell them apart."""
    rng = np.random.default_rng(0)
    rows = [(f"u{u}", i, int(rng.integers(9))) for u in range(30) for i in rng.permutation(40)[:3 + u * 7 % 13]]
    folder = write_ratings([rows[k] for k in rng.permutation(len(rows))], items=range(40))
    table = pd.read_csv(folder / "ratings.csv")
    table["rating"] = rng.integers(1, 6, len(table))
    table.to_csv(folder / "ratings.csv", index=False)


@pytest.fixture
def forbidding(uneven, settings, tmp_path):
    """forbidding(*options): settings with vetoes on all of u3's, all but one of u13's, and an item of everybody's."""
    ratings = pd.read_csv(tmp_path / "data" / "tiny" / "ratings.csv")
    first, second, _ = ratings[ratings.user_id == "u13"].item_id
    (tmp_path / "forbidden.csv").write_text("user_id,item_id,unwillingness\nu3,,1\n,5,1\n,,0.25\n"
                                            f"u13,{first},1\nu13,{second},1\n")
    return lambda *options: settings("--willingness_file", tmp_path / "forbidden.csv", "--veto", *options)


def on_shares(config, folder, work, unwillingness=False):
    """What work(dataset) returns in each of config.ranks ranks, for its share of the dataset."""
    deal(config, False, folder, unwillingness=unwillingness)
    return in_threads(config.ranks, lambda exchange: work(load_share(config, False, folder, exchange)))


@pytest.fixture(params=[1, 100], ids=["blocks are shared out", "whole blocks"])
def blocks(request, monkeypatch):
    """How users are dealt: with blocks of few interactions there are enough for each rank."""
    if request.param > 1:
        for module in ("src.common.share", "src.training.deal"):
            monkeypatch.setattr(f"{module}.DRAWN_TOGETHER", 15)
    return request.param


def put_together(parts, whole):
    """(n, ...) of what each rank has for its own interactions, as [(users, owner of each interaction, values)]."""
    result = np.empty((whole.num_interactions, *parts[0][1].shape[1:]), parts[0][1].dtype)
    for share, values in parts:
        result[share.positions(0)] = values
    return result


def test_few_blocks_are_shared_out_and_many_are_kept_whole(monkeypatch):
    length = np.array([9, 8, 7, 6, 0, 5])
    assert np.bincount(owners(length, 2), length).tolist() == [21, 14]
    monkeypatch.setattr(deal_module, "DRAWN_TOGETHER", 1)  # each user is a block
    monkeypatch.setattr(deal_module, "FEW", 1)
    assert np.bincount(owners(length, 2), length).tolist() == [20, 15]  # each to the one with less
    assert set(owners(length, 5)[length > 0]) == set(range(5))
    with pytest.raises(InputError, match="--ranks 6: only 5 users"):
        owners(length, 6)


@pytest.mark.parametrize("veto", [False, True])
def test_a_share_has_its_own_users_alone_and_all_together_are_the_dataset(forbidding, tmp_path, blocks, veto):
    config = forbidding("--ranks", 3, f"--veto={veto}")
    whole = load_dataset(config)
    gone, scored, seen = whole.dropped or NONE_DROPPED, whole.test[whole.scored].tolist(), []
    if veto:
        assert (gone.why == TOO_FEW).sum() == 1 and (gone.why == VETO).sum() > 10 and len(whole.scored) == 28
        assert set(gone.line[gone.why == VETO]) == {2, 3, 5, 6} and 0 < gone.before.max() < whole.num_interactions
    for part, everyones in on_shares(config, tmp_path, lambda part: (part, part.of_scored(part.test[part.scored]).tolist())):
        users, own = part.share.users, part.dropped or NONE_DROPPED
        assert part.user_ids.tolist() == whole.user_ids[users].tolist() and part.num_items == whole.num_items
        mine = np.isin(whole.user, users)
        assert part.item.tolist() == whole.item[mine].tolist() and part.rows.tolist() == whole.rows[mine].tolist()
        assert users[part.user].tolist() == whole.user[mine].tolist() and everyones == scored
        assert part.test.tolist() == whole.test[users].tolist()
        assert part.held_out.tolist() == whole.held_out[users].tolist()
        assert part.rows_sha256() == whole.rows_sha256() and part.share.splits == (blocks == 1)
        with np.load(tmp_path / f"share_{part.share.rank}.npz") as file:  # that is all that the rank is given of anybody
            lengths = {name: len(values) for name, values in file.items()}
        assert [lengths[name] for name in ("user", "item", "rows")] == [mine.sum()] * 3
        assert [lengths[name] for name in ("test", "validation", "held")] == [len(users)] * 3
        forbidden = np.isin(gone.user, users)
        assert users[own.user].tolist() == gone.user[forbidden].tolist()
        for name in ("item", "rows", "why", "line"):
            assert getattr(own, name).tolist() == getattr(gone, name)[forbidden].tolist()
        if veto:  # as many of the same history come before each, and all of the part's users before
            first, here = (np.searchsorted(data.user, np.arange(data.num_users)) for data in (whole, part))
            assert (own.before - here[own.user]).tolist() == (gone.before - first[gone.user])[forbidden].tolist()
            assert part.stated[0].tolist() == whole.stated[0][mine].tolist()
            assert part.history_pairs().contains(own.user, own.item).all()
        seen += [*part.rows, *own.rows]
    assert sorted(seen) == sorted([*whole.rows, *gone.rows])


@pytest.mark.parametrize("veto", [False, True])
def test_ranks_draw_and_list_what_one_process_does(forbidding, tmp_path, blocks, veto):
    config = forbidding(*SMALL, "--ranks", 3, f"--veto={veto}")
    whole = load_dataset(config)
    wanted = evaluation_candidates(whole, "test", config)
    assert len(wanted) == len(whole.scored) == (28 if veto else 30)

    def work(part):
        chunks, items = Chunks(part, config), np.zeros((part.num_interactions, 3), np.int32)
        for k in range(len(chunks)):
            items[chunks.positions(k)] = chunks[k].items[chunks[k].inside]
        return part, items, evaluation_candidates(part, "test", config), chunks.pairs_per_call

    def write(data, name):
        decisions = Decisions(data.rows % 2 == 0, data.item / 40, reason=pd.Categorical((data.rows % 3).astype(str)),
                              barred=barred_by(data.dropped, {}))
        decisions.write(tmp_path / name, data)
    found = on_shares(config, tmp_path, work)
    for part, _, candidates, _ in found:
        assert candidates.tolist() == wanted[np.isin(whole.scored, part.share.users)].tolist()
        write(part, f"{part.share.rank}.csv")
    assert put_together([(part.share, drawn) for part, drawn, *_ in found], whole).tolist() == work(whole)[1].tolist()
    assert len({pairs for *_, pairs in found}) == 1
    join(tmp_path, ["0.csv", "1.csv", "2.csv"], tmp_path / "whole.csv")
    write(whole, "wanted.csv")
    assert (tmp_path / "whole.csv").read_bytes() == (tmp_path / "wanted.csv").read_bytes()
    assert len((tmp_path / "whole.csv").read_text().splitlines()) == \
        1 + whole.num_interactions + (len(whole.dropped.user) if veto else 0)


@pytest.mark.parametrize("source", ["uniform", "ratings", "constant"])
def test_ranks_know_and_fit_what_one_process_does(forbidding, tmp_path, source):
    config = forbidding("--unwillingness", source, "--ranks", 3)
    whole, rng = load_dataset(config), np.random.default_rng(0)
    influence, rows = rng.normal(size=(whole.num_interactions, 4)), rng.normal(size=(whole.num_users, 3))
    influence[:, 0] += influence[:, 1]

    def work(part):
        fitted, report = expected_influence(influence[part.share.positions(0)], part)
        prior = prior_of(part.share.own(rows), part.share)
        return part.share, load_problem(config, part).unwillingness, fitted, prior, default_shrinkage(part), set(report)
    found, prior = on_shares(config, tmp_path, work, unwillingness=True), prior_of(rows)
    assert put_together([one[:2] for one in found], whole).tolist() == load_stated(whole, config)[0].tolist()
    expected, report = expected_influence(influence, whole)
    assert set(report) == {"1", "2", "3"} == found[0][5] and report["1"]["slopes"][0] > 0.5
    np.testing.assert_allclose(put_together([(one[0], one[2]) for one in found], whole), expected, rtol=1e-9, atol=1e-12)
    for *_, fitted, shrinkage, _ in found:
        assert shrinkage == default_shrinkage(whole)
        np.testing.assert_allclose(fitted.mean, prior.mean, rtol=1e-12)
        np.testing.assert_allclose(fitted.precision, prior.precision, rtol=1e-9)


@pytest.mark.parametrize("flags", [[], ["--unwillingness", "constant"]])
def test_ranks_ask_first_as_one_process_does(cpu, uneven, settings, tmp_path, monkeypatch, flags):
    config = settings("--ranks", 3, "--model", "mf", "--num_factors", 3, "--embedding_std", 1, *flags,
                      "--instalments", ".3,.6,1")
    whole = load_dataset(config)
    model = build(whole, config).values()
    monkeypatch.setattr(ask_first, "FEW", 0)
    monkeypatch.setattr(ask_first.DecidingSide, "announce", lambda side: [MF.own_values(model, side.share)])

    def work(part):
        found = Strategies(load_problem(config, part), None, config, "CPU")("ask-first", 0.6)
        return part.share, found.instalment, found.expected, found.record
    one = Strategies(load_problem(config, whole), None, config, "CPU")("ask-first", 0.6)
    found = on_shares(config, tmp_path, work, unwillingness=True)
    assert set(one.instalment.tolist()) == {0, 1, 2, 3}
    assert put_together([each[:2] for each in found], whole).tolist() == one.instalment.tolist()
    expected = put_together([(each[0], each[2]) for each in found], whole)
    np.testing.assert_allclose(expected, one.expected, rtol=1e-4, atol=1e-7)
    for key in ("instalment_wv", "instalment_weights"):
        for *_, record in found:
            assert record[key][0] == one.record[key][0] and record[key][1:] == pytest.approx(one.record[key][1:], rel=1e-4)
