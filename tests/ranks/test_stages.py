"""Ranks as threads: what stages compute, and write, is what one process does."""
import threading

import numpy as np
import pandas as pd
import pytest

import src.movielens
from src.candidates import evaluation_candidates
from src.common.variant import Variant
from src.consent.allowed import NONE_DROPPED, TOO_FEW, VETO
from src.consent.unwillingness import load_stated
from src.dataset import load_dataset
from src.evaluation import evaluate as evaluation
from src.game import ask_first, strategies
from src.game.preprocess import preprocess
from src.game.problem import load_problem
from src.game.strategies import STRATEGIES, Strategies
from src.influence.chunks import Chunks
from src.influence.expected import default_shrinkage, expected_influence
from src.influence.rows import prior_of
from src.network import build
from src.training.train import train
from tests.ranks import as_ranks
from tests.small import SMALL, refused

RANKS = 3
VALUES = "--model", "mf", "--num_factors", 3, "--embedding_std", 1


@pytest.fixture
def uneven(tmp_path):
    """Options that name 30 users with 3 to 15 of 40 items, rows in random order, ratings that tell them apart; made."""
    rng = np.random.default_rng(0)
    rows = [(f"u{u}", i, int(rng.integers(9)), int(rng.integers(1, 6))) for u in range(30)
            for i in rng.permutation(40)[:3 + u * 7 % 13]]
    columns = ["user_id", "item_id", "timestamp", "rating"]
    pd.DataFrame([rows[k] for k in rng.permutation(len(rows))], columns=columns).to_csv(tmp_path / "uneven.csv", index=False)
    pd.DataFrame({"item_id": range(40), "title": "", "genres": ["a|b", "b", "c"] * 13 + ["c"]}).to_csv(
        tmp_path / "items.csv", index=False)
    return "--archive", tmp_path / "uneven.csv", "--items", tmp_path / "items.csv"


@pytest.fixture
def made(uneven, settings, tmp_path):
    """made(*options): settings of that data; with RULES all of u3's are vetoed, most of u13's, and an item of all."""
    src.movielens.prepare(settings(*uneven))
    first, second, _ = (table := pd.read_csv(tmp_path / "uneven.csv"))[table.user_id == "u13"].item_id
    (tmp_path / "rules.csv").write_text(
        f"user_id,item_id,genre,since,unwillingness\nu3,,,,1\n,5,,,1\n,,,,0.25\nu13,{first},,,1\nu13,{second},,,1\n"
        ",,a,,0.5\nu5,,c,4,0.9\n")
    rules = "--willingness_file", tmp_path / "rules.csv", "--veto"
    return lambda *options: settings(*uneven, *(one for option in options for one in (
        rules if isinstance(option, str) and option == "RULES" else [option])))


def on_ranks(work, *arguments):
    """What work(*arguments) returns in each of several ranks."""
    return as_ranks(RANKS, lambda: work(*arguments))


def put_together(parts, whole):
    """(n, ...) of what each rank has for its own interactions, as [(its Dataset, values)]."""
    result = np.empty((whole.num_interactions, *parts[0][1].shape[1:]), parts[0][1].dtype)
    for dataset, values in parts:
        result[dataset.share.positions(0)] = values
    return result


@pytest.fixture(params=[1, 100], ids=["blocks are shared out", "whole blocks"])
def blocks(request, monkeypatch):
    """How users are dealt: with blocks of few interactions there are enough for each rank."""
    if request.param > 1:
        for module in ("src.common.share", "src.ranks.part"):
            monkeypatch.setattr(f"{module}.DRAWN_TOGETHER", 15)
    return request.param


@pytest.mark.parametrize("rules", [[], ["RULES"]])
def test_a_rank_reads_its_own_users_alone_and_all_together_are_the_dataset(made, blocks, rules):
    config = made(*rules)
    whole = load_dataset(config)
    gone, scored, seen = whole.dropped or NONE_DROPPED, whole.test[whole.scored].tolist(), []
    if rules:
        assert (gone.why == TOO_FEW).sum() == 1 and (gone.why == VETO).sum() > 10 and len(whole.scored) == 28

    def work():
        part = load_dataset(config)
        return part, part.of_scored(part.test[part.scored]).tolist(), part.rows_sha256(), part.catalogue_sha256()
    for part, everyones, *digests in on_ranks(work):
        users, own = part.share.users, part.dropped or NONE_DROPPED
        mine, forbidden = np.isin(whole.user, users), np.isin(gone.user, users)
        assert part.user_ids.tolist() == whole.user_ids[users].tolist() and part.num_items == whole.num_items
        assert part.item.tolist() == whole.item[mine].tolist() and part.rows.tolist() == whole.rows[mine].tolist()
        assert users[part.user].tolist() == whole.user[mine].tolist() and everyones == scored
        assert part.test.tolist() == whole.test[users].tolist()
        assert part.held_out.tolist() == whole.held_out[users].tolist()
        assert digests == [whole.rows_sha256(), whole.catalogue_sha256()]
        assert part.consent.as_json() == whole.consent.as_json()
        assert users[own.user].tolist() == gone.user[forbidden].tolist()
        for name in ("item", "rows", "why", "line"):
            assert getattr(own, name).tolist() == getattr(gone, name)[forbidden].tolist()
        if rules:  # as many of the same history come before each, and all of the part's users before
            first, here = (np.searchsorted(data.user, np.arange(data.num_users)) for data in (whole, part))
            assert (own.before - here[own.user]).tolist() == (gone.before - first[gone.user])[forbidden].tolist()
            assert part.stated[0].tolist() == whole.stated[0][mine].tolist()
        seen += [*part.rows, *own.rows]
    assert sorted(seen) == sorted([*whole.rows, *gone.rows])


@pytest.mark.parametrize("rules", [[], ["RULES"]])
def test_ranks_draw_what_one_process_does(made, blocks, rules):
    config = made(*SMALL, *rules)
    whole = load_dataset(config)
    wanted = evaluation_candidates(whole, "test", config)

    def work():
        part = load_dataset(config)
        chunks, items = Chunks(part, config), np.zeros((part.num_interactions, 3), np.int32)
        for k in range(len(chunks)):
            items[chunks.positions(k)] = chunks[k].items[chunks[k].inside]
        return part, items, part.of_scored(evaluation_candidates(part, "test", config)), chunks.pairs_per_call
    found = on_ranks(work)
    for _, _, candidates, _ in found:
        assert candidates.tolist() == wanted.tolist()
    assert put_together([one[:2] for one in found], whole).tolist() == work()[1].tolist()
    assert len({pairs for *_, pairs in found}) == 1


@pytest.mark.parametrize("options", [["uniform", "RULES"], ["ratings"], ["genres"], ["uniform"]])
def test_ranks_know_and_fit_what_one_process_does(made, options):
    config = made("--unwillingness", *options)
    whole, rng = load_dataset(config), np.random.default_rng(0)
    influence, rows = rng.normal(size=(whole.num_interactions, 4)), rng.normal(size=(whole.num_users, 3))
    influence[:, 0] += influence[:, 1]

    def work():
        part = load_dataset(config)
        fitted, report = expected_influence(influence[part.share.positions(0)], part)
        prior = prior_of(part.share.own(rows))
        return part, load_problem(config, part).unwillingness, fitted, prior, default_shrinkage(part), set(report)
    found, prior = on_ranks(work), prior_of(rows)
    assert put_together([one[:2] for one in found], whole).tolist() == load_stated(whole, config)[0].tolist()
    expected, report = expected_influence(influence, whole)
    assert set(report) == {"1", "2", "3"} == found[0][5] and report["1"]["slopes"][0] > 0.5
    np.testing.assert_allclose(put_together([(one[0], one[2]) for one in found], whole), expected, rtol=1e-9, atol=1e-12)
    for *_, fitted, shrinkage, _ in found:
        assert shrinkage == default_shrinkage(whole)
        np.testing.assert_allclose(fitted.mean, prior.mean, rtol=1e-12)
        np.testing.assert_allclose(fitted.precision, prior.precision, rtol=1e-9)


@pytest.mark.parametrize("holdout", [2, 0])
@pytest.mark.parametrize("strategy", [name for name in STRATEGIES])
def test_ranks_decide_as_one_process_does(cpu, made, monkeypatch, strategy, holdout):
    config = made(*VALUES, "--instalments", ".3,.6,1", "--anchors", 2, "--holdout", holdout, "--anchor_placing",
                  "binomial" if holdout else "successive")
    whole = load_dataset(config)
    net, model = build(whole, config), build(whole, config).values()
    monkeypatch.setattr(ask_first, "FEW", 0)
    monkeypatch.setattr(Strategies, "at_everything", property(Strategies.at_everything.func))  # its lock is of all threads
    monkeypatch.setattr(ask_first.DecidingSide, "announce", lambda side: [net.rows_by(side.share.own, model)])
    monkeypatch.setattr(strategies, "retrained", lambda known, *_: [
        {name: 0.9 * value for name, value in values.items()} for values in known[0].values()])

    def work():
        dataset = load_dataset(config)
        known = {1: net.rows_by(dataset.share.own, model)}, {}
        found = Strategies(load_problem(config, dataset), known, config, "CPU")(strategy, 0.6)
        return dataset, found.disclosed, found.expected, found.record, found.weight
    one, found = work()[1:], on_ranks(work)
    assert put_together([each[:2] for each in found], whole).tolist() == one[0].tolist()
    assert one[0].all() if strategy == "none" else 0.3 < one[0].mean() < 0.95
    if one[1] is not None:
        expected = put_together([(each[0], each[2]) for each in found], whole)
        np.testing.assert_allclose(expected, one[1], rtol=1e-4, atol=1e-7)
    for *_, record, weight in found:
        assert weight == (None if one[3] is None else pytest.approx(one[3], rel=1e-4))
        for key, value in one[2].items():
            if key != "expectation":
                assert record[key] == pytest.approx(value, rel=1e-4), key


def test_ranks_write_what_one_process_writes(cpu, made, tmp_path, monkeypatch):
    lock, compute = threading.Lock(), evaluation.score  # MindSpore compiles in one thread at a time

    def score(*arguments):
        with lock:
            return compute(*arguments)
    monkeypatch.setattr(evaluation, "score", score)
    options = *SMALL, "--strategy", "threshold", "RULES", "--report_users", 2
    train(Variant(made(*options)))
    output, masked, files = tmp_path / "output", tmp_path / "data" / "masked_tiny", []
    for ranks in (1, RANKS):
        config = made(*options, "--ranks", ranks, "--overwrite")
        run = on_ranks if ranks > 1 else lambda work, *arguments: [work(*arguments)]
        run(preprocess, config)
        assert (output / "disclosure.png").exists()
        train(Variant(made(*options, "--overwrite"), masked=True))
        run(evaluation.evaluate, Variant(config, masked=True))
        files.append([path.read_bytes() for path in (
            output / "disclosure.csv", masked / "ratings.csv", masked / "held_out.csv", output / "eval_ifrqe_users.csv")])
        assert not list(tmp_path.rglob("*.tmp*"))
    assert files[0] == files[1]


@pytest.mark.parametrize("option", [("--solver", "lissa"), ("--model", "lightgcn"), ("--recommend", 1), ("--withdraw", "x")])
def test_what_does_not_go_with_ranks_is_refused(settings, option):
    with refused(*option):
        settings(*option, "--ranks", 2)
