import json

import numpy as np
import pytest

from src.candidates import evaluation_candidates, training_groups
from src.common.files import digest
from src.common.variant import asked
from src.consent.allowed import TOO_FEW, VETO, WAITS, Consent
from src.dataset import Ids, load_dataset, split, split_allowed
from src.sources.interactions import read_interactions
from src.stat_utils import generator
from tests.small import refused

# user 5: items 1 2 | 3 | 4 by time; user 8: item 4 | 1 | 2, given out of order
ROWS = [(5, 1, 10), (8, 2, 30), (5, 3, 30), (5, 2, 20), (8, 4, 10), (5, 4, 40), (8, 1, 20)]


def test_leave_one_out_by_time(write_ratings, settings):
    write_ratings(ROWS)
    d = load_dataset(settings())
    assert (d.num_users, d.num_items, d.num_interactions) == (2, 4, 3)
    assert d.user_ids[d.user].tolist() == [5, 5, 8] and d.item_ids[d.item].tolist() == [1, 2, 4]
    assert d.item_ids[d.validation].tolist() == [3, 1] and d.item_ids[d.test].tolist() == [4, 2]
    assert d.rows.tolist() == [0, 3, 4] and d.held_out.tolist() == [[2, 5], [6, 1]]
    write_ratings([(1, item, 7) for item in (4, 2, 3, 1)])  # ties in time keep the order of the rows
    d = load_dataset(settings())
    assert d.item_ids[[*d.item, d.validation[0], d.test[0]]].tolist() == [4, 2, 3, 1]
    write_ratings([*ROWS, (9, 1, 1), (9, 2, 2)])  # a user without a history
    assert (load_dataset(settings()).num_users, load_dataset(settings()).num_interactions) == (3, 3)
    write_ratings([(f"u{u}", f"b{i}", t) for u, i, t in ROWS], items=[f"b{i}" for i in range(6)])  # of the catalogue
    d = load_dataset(settings())
    assert d.user_ids.tolist() == ["u5", "u8"] and d.item_ids[d.test].tolist() == ["b4", "b2"] and d.num_items == 6


def test_negatives_are_fresh_and_never_training_positives(write_ratings, settings):
    write_ratings(ROWS, items=range(12))
    d = load_dataset(settings())
    one, again, other = (training_groups(d, 200, generator(1, "negatives", epoch), d.history_pairs(),
                                           np.arange(d.num_interactions)) for epoch in (0, 0, 1))
    assert np.array_equal(one, again) and not np.array_equal(one, other)
    assert one.shape == (3, 201) and np.array_equal(one[:, 0], d.item)
    for user, row in zip(d.user, one):
        outside = set(range(12)) - set(d.item[d.user == user])
        assert set(row[1:]) == outside  # held-out items among them: to the trainer they are items like any other


def test_candidates_hold_no_interaction_and_are_fixed_by_seed(write_ratings, settings):
    write_ratings(ROWS, items=range(40))
    d = load_dataset(settings())
    config = settings("--num_eval_neg", 30)
    test, validation = (evaluation_candidates(d, which, config) for which in ("test", "validation"))
    assert np.array_equal(test, evaluation_candidates(d, "test", config))
    assert not np.array_equal(test, evaluation_candidates(d, "test", settings("--num_eval_neg", 30, "--seed", 2)))
    for user, (a, b) in enumerate(zip(test, validation)):
        seen = {*d.item[d.user == user], d.validation[user], d.test[user]}
        assert a[0] == d.test[user] and b[0] == d.validation[user]
        for row in (a, b):
            assert len(set(row)) == 31 and not seen & set(row[1:])


@pytest.fixture
def write_masked(write_ratings):
    """write_masked(trained, held, name, **said) writes what may be trained on, what is held out, and their record."""
    def write(trained, held, name="masked_tiny", **said):
        folder = write_ratings(held, name)
        (folder / "ratings.csv").rename(folder / "held_out.csv")
        write_ratings(trained, name)
        digests = {path.name: digest(path) for path in folder.glob("*.csv")}
        (folder / "dataset.json").write_text(json.dumps({"masked_from": "tiny", "files_sha256": digests, **said}))
        return folder
    return write


HELD = [ROWS[k] for k in (1, 2, 5, 6)]  # user 5: items 3 and 4, user 8: 1 and 2


def test_masked_twin_holds_apart_what_trains_and_what_is_held_out(write_ratings, write_masked, settings):
    write_ratings(ROWS)
    write_masked([ROWS[3]], HELD)
    d = load_dataset(settings(), masked=True)
    assert d.item_ids.tolist() == [1, 2, 3, 4] and d.user_ids.tolist() == [5, 8]  # those of the source
    assert (d.user.tolist(), d.item.tolist()) == ([0], [1]) and d.dropped is None
    assert d.item_ids[d.validation].tolist() == [3, 1] and d.item_ids[d.test].tolist() == [4, 2]
    write_masked([ROWS[3]], [HELD[1], HELD[2]])  # of user 8 nothing is held out
    d = load_dataset(settings(), masked=True)
    assert (d.test.tolist(), d.validation.tolist(), d.scored.tolist()) == ([3, -1], [2, -1], [0])
    assert d.all_pairs().contains([0, 0, 0, 1], [1, 2, 3, 0]).tolist() == [True, True, True, False]
    assert evaluation_candidates(d, "test", settings("--num_eval_neg", 1, "--top_k", 1)).tolist() == [[3, 0]]
    # given away alone, its users and items are those that occur
    alone = load_dataset(settings("--dataset", "masked_tiny"))
    assert (alone.user_ids.tolist(), alone.item_ids.tolist()) == ([5], [2, 3, 4])
    assert (alone.user.tolist(), alone.item.tolist(), alone.test.tolist()) == ([0], [0], [2])


def test_what_a_masked_folder_must_be_is_named(write_ratings, write_masked, settings):
    write_ratings(ROWS)
    folder = write_masked([ROWS[3]], HELD[:3])
    with refused("held_out.csv", "--holdout 2", "preprocess.py"):
        load_dataset(settings(), masked=True)
    with refused("--veto", "masked_tiny"):
        load_dataset(settings("--dataset", "masked_tiny", "--veto"))
    for trained, held, named in (([ROWS[3]], [*HELD, ROWS[3]], "user 5 has item 2 more than once"),
                                 ([(5, 99, 1)], HELD, "lacks item_id 99")):
        write_masked(trained, held)
        with refused("ratings.csv", named):
            load_dataset(settings(), masked=True)
    write_masked([ROWS[3]], HELD)
    (folder / "held_out.csv").write_text((folder / "held_out.csv").read_text() + "5,2,3,1\n")
    with refused("held_out.csv", "dataset.json", "preprocess.py"):
        load_dataset(settings(), masked=True)
    write_masked([ROWS[3]], HELD, files_sha256={})  # of an earlier version, held-out rows among those that train
    (folder / "held_out.csv").unlink()
    for dataset, masked in (("tiny", True), ("masked_tiny", False)):
        with refused("masked_tiny", "earlier version", "preprocess.py"):
            load_dataset(settings("--dataset", dataset), masked=masked)
    (folder / "dataset.json").unlink()
    with refused("dataset.json", "preprocess.py"):
        load_dataset(settings(), masked=True)


def split_of(write_ratings, settings, why=(0,) * 7, later=0, holdout=2):
    """Of ROWS, in order of time user 5: 1 2 3 4, user 8: 4 1 2, by user the split as original ids, and the Dataset."""
    write_ratings(ROWS)
    d = split_allowed(read_interactions(settings()), holdout, np.array(why), np.array(later), (np.zeros(7), np.arange(7)))
    held = [[] if d.test[u] < 0 else [d.item_ids[one[u]].item() for one in (d.validation, d.test) if one is not None]
            for u in range(2)]
    return [(d.item_ids[d.item[d.user == u]].tolist(), held[u]) for u in range(2)], d


def test_a_veto_on_the_last_items_moves_the_split(write_ratings, settings):
    found, d = split_of(write_ratings, settings, [0, 0, 0, VETO, 0, 0, 0])
    assert found == [([1], [2, 3]), ([4], [1, 2])]
    gone = d.dropped
    assert (gone.user.tolist(), gone.item.tolist(), gone.rows.tolist()) == ([0], [3], [5])
    assert (gone.why.tolist(), gone.before.tolist(), gone.line.tolist()) == ([VETO], [1], [3])
    assert d.place.tolist() == [0, 2] and d.rows.tolist() == [0, 4] and d.held_out.tolist() == [[3, 2], [6, 1]]
    # told to what must not offer it, and to nothing else
    assert d.history_pairs().contains([0, 0, 0], [0, 3, 1]).tolist() == [True, True, False]
    assert d.all_pairs().contains(0, [0, 1, 2, 3]).all() and not d.part(np.ones(2, bool)).history_pairs().contains(0, [3])
    assert split_of(write_ratings, settings, [0, 0, VETO, VETO, 0, 0, 0])[0] == [([], [1, 2]), ([4], [1, 2])]
    assert split_of(write_ratings, settings, [VETO, 0, 0, 0, 0, 0, VETO], holdout=1)[0] == [([2, 3], [4]), ([4], [1])]
    assert split_of(write_ratings, settings)[1].dropped is None is split_of(write_ratings, settings)[1].place


def test_users_with_too_few_allowed_interactions_take_no_part(write_ratings, settings):
    found, d = split_of(write_ratings, settings, [0, 0, VETO, 0, 0, VETO, 3])
    assert found == [([1], [2, 4]), ([], [])]
    assert (d.test.tolist(), d.validation.tolist(), d.scored.tolist()) == ([3, -1], [1, -1], [0])
    assert d.dropped.why.tolist() == [VETO, TOO_FEW, VETO, 3] and d.dropped.before.tolist() == [1, 1, 1, 1]
    assert [pairs.tolist() for pairs in d.held_pairs] == [[0, 0], [3, 1]]
    assert d.of_scored(np.array([7])).tolist() == [7] and d.num_users == 2


def test_who_takes_no_part_needs_no_negatives(write_ratings, settings):
    """User 2 has had every item, and vetoes all: nothing is drawn for them."""
    write_ratings([(1, 1, 1), (1, 2, 2), (1, 3, 3)] + [(2, i, i) for i in range(1, 7)], items=range(1, 7))
    d = split_allowed(read_interactions(settings()), 2, np.repeat([0, VETO], [3, 6]))
    candidates = evaluation_candidates(d, "test", settings("--num_eval_neg", 3, "--top_k", 1))
    assert d.scored.tolist() == [0] and sorted(candidates[0]) == [2, 3, 4, 5]
    assert sorted(training_groups(d, 20, np.random.default_rng(0), d.history_pairs(), np.arange(1))[0])[0] == 0


def test_a_later_withdrawal_leaves_the_split_and_unscores_its_user(write_ratings, settings):
    before, after = (split_of(write_ratings, settings, *rows) for rows in (
        ([0] * 7, [0, 0, 0, 2, 0, 0, 0]), ([0, 0, 0, 2, 0, 0, 0],)))
    assert before[0] == [([1, 2], []), ([4], [1, 2])] and after[0] == [([1], [2, 3]), ([4], [1, 2])]
    gone = before[1].dropped
    assert gone.why.tolist() == [WAITS, 2] and gone.item.tolist() == [2, 3] and gone.before.tolist() == [2, 2]
    assert before[1].scored.tolist() == [1] and before[1].rows_sha256() != after[1].rows_sha256()
    found, d = split_of(write_ratings, settings, [0] * 7, [5, 0, 0, 0, 0, 0, 0])
    assert found == [([2], [3, 4]), ([4], [1, 2])] and d.scored.tolist() == [0, 1] and d.place.tolist() == [1, 2]
    # what may not be used anyway is not asked about once more
    _, d = split_of(write_ratings, settings, [VETO, 0, 0, 0, 0, 0, 0], [1, 1, 0, 0, 1, 1, 1])
    assert d.dropped.why.tolist() == [VETO, 1, 1, 1, 1] and d.scored.tolist() == [0]


def test_consent_is_the_same_after_it_was_written(write_ratings, settings, tmp_path):
    for consent in (Consent(), Consent(None, 3), Consent(np.arange(19) % 3 == 0, 2), Consent(np.zeros(5, bool))):
        again = Consent.of_json(json.loads(json.dumps(consent.as_json())))
        assert again.requests == consent.requests and again.forbids_as(consent)
        assert np.array_equal(again.vetoed, consent.vetoed) if consent.vetoed is not None else again.vetoed is None
    assert Consent.of_json(None) == Consent()
    assert Consent(np.zeros(5, bool)).forbids_as(Consent()) and not Consent(np.arange(5) == 1).forbids_as(Consent())


def test_a_dataset_is_read_as_it_was_when_something_was_trained(write_ratings, settings, tmp_path):
    write_ratings(ROWS)
    rules = tmp_path / "rules.csv"
    rules.write_text("user_id,item_id,unwillingness\n5,4,1\n")
    config = settings("--willingness_file", rules, "--veto")
    then = load_dataset(config)
    assert then.item_ids[then.test].tolist() == [3, 2]
    for now in (config, settings()):  # --veto need not be given again
        again = load_dataset(now, consent=Consent.of_json(then.consent.as_json()))
        assert again.rows_sha256() == then.rows_sha256() != load_dataset(settings()).rows_sha256()
    rules.write_text("user_id,item_id,unwillingness\n5,3,1\n")
    with refused("tiny: what is vetoed", "train.py"):
        load_dataset(config, consent=then.consent)
    write_ratings(ROWS[:-1] + [(8, 1, 20), (8, 3, 90)])
    with refused("tiny: what is vetoed, or the ratings", "train.py"):
        load_dataset(settings(), consent=then.consent)
    rules.write_text("unwillingness\n1\n")
    with refused("--veto", "nothing is left"):
        load_dataset(config)


@pytest.mark.parametrize("rows, items, named", [
    ([(1, 2, 3), (1, 2, 4), (1, 3, 5)], None, "user 1 has item 2 more than once"),
    ([(1, 2, 3), (2, 2, 4), (2, 3, 5)], None, "user 1 has fewer than 2"), (ROWS, [1, 2, 3], "movies.csv: lacks item_id 4"),
    ([], None, "holds no ratings"), ("", None, "is empty"), ("user_id,item_id\n1,2\n", None, "timestamp"),
    ("user_id,item_id,timestamp\n1,2,3\n1,,4\n", None, "row 2 has nothing as item_id"),
    (None, None, "scripts/run_download_dataset.sh")])
def test_unfit_data_is_named(write_ratings, settings, rows, items, named):
    path = write_ratings([] if rows is None or isinstance(rows, str) else rows, items=items) / "ratings.csv"
    if rows is None:
        path.unlink()
        with refused("masked_tiny", "preprocess.py"):
            load_dataset(settings(), masked=True)
    elif isinstance(rows, str):
        path.write_text(rows)
    with refused("ratings.csv", named):
        load_dataset(settings())


def test_too_few_items_are_named(write_ratings, settings):
    write_ratings(ROWS)
    with refused("--num_eval_neg 99", "user 5", "all but 0 of 4 items"):
        evaluation_candidates(load_dataset(settings()), "test", settings())
    write_ratings([(1, i, i) for i in (1, 2, 3, 4)] + [(2, 1, 1), (2, 2, 2)], name="full", items=[1, 2, 3, 4])
    full = load_dataset(settings("--dataset", "full"))
    full.item, full.user = np.arange(4, dtype=np.int32), np.zeros(4, np.int32)
    with refused("user 1", "all 4 items", "--max_ratings 3"):
        training_groups(full, 1, generator(1), full.history_pairs(), np.arange(4))


def test_literature_negatives_with_original_and_with_0_based_ids(write_ratings, settings, tmp_path):
    write_ratings(ROWS, items=range(12))
    d = load_dataset(settings())
    path = tmp_path / "test.negative"
    for lines, number in (("(8,2)\t2\t6\n(5,4)\t7\t8\n", 2), ("(8,2)\t5\t6\n(5,4)\t7\t8\n", 3)):  # its own is none
        path.write_text(lines)
        c = evaluation_candidates(d, "test", settings("--top_k", number - 1, "--eval_negatives", path))
        with refused(f"--top_k {number}", f"only {number} candidates"):
            evaluation_candidates(d, "test", settings("--top_k", number, "--eval_negatives", path))
    assert d.item_ids[c].tolist() == [[4, 7, 8], [2, 5, 6]]
    path.write_text("(0,100)\t101\t102\n(1,103)\t104\t105\n")
    items = tmp_path / "items.txt"
    items.write_text("4\t100\n7\t101\n8\t102\n2\t103\n5\t104\n6\t105\n")
    again = evaluation_candidates(d, "test", settings("--top_k", 1, "--eval_negatives", path, "--eval_item_list", items))
    assert np.array_equal(c, again)


def test_literature_negatives_name_text_ids_as_they_are(write_ratings, settings, tmp_path):
    names = ["007", "7", "NA", "1.0", "1", "a b"]
    write_ratings([(u, i, k) for u in names for k, i in enumerate(names[:3])], items=names)
    d = load_dataset(settings())
    path = tmp_path / "test.negative"
    path.write_text("\ufeff" + "".join(f"({u},NA)\t1.0\t1\ta b\n" for u in reversed(names)), encoding="utf-8")
    c = evaluation_candidates(d, "test", settings("--top_k", 1, "--eval_negatives", path))
    assert d.item_ids[c].tolist() == [["NA", "1.0", "1", "a b"]] * 6
    path.write_text("".join(f"({k:03},02)\t03\t04\n" for k in range(6)))  # 0-based ids are names too: 000 is not 0
    items = tmp_path / "items.txt"
    items.write_text("NA\t02\n1.0\t03\n1\t04\n")
    with refused("names the user '000'"):
        evaluation_candidates(d, "test", settings("--top_k", 1, "--eval_negatives", path, "--eval_item_list", items))


def test_options_must_be_those_that_the_dataset_or_the_mask_was_made_with(write_ratings, settings):
    (write_ratings(ROWS) / "dataset.json").write_text(json.dumps({"max_ratings": 0, "min_ratings": 3}))
    load_dataset(settings())
    with refused("--max_ratings 20", "max_ratings=0"):
        load_dataset(settings("--max_ratings", 20))
    folder = write_ratings(ROWS, name="masked_tiny")
    (folder / "dataset.json").write_text(json.dumps({"mask_settings": {"wv_budget": 0.1, "strategy": "ifrqe",
                                                                                "protect": True}}))  # of an earlier version
    asked(settings("--masked")).settings()
    asked(settings("--masked", "--wv_budget", 0.1)).settings()
    asked(settings("--wv_budget", 0.6)).settings()  # of no masked model
    for flags in (["--wv_budget", 0.6], ["--strategy", "threshold"]):
        with refused(f"{flags[0]} {flags[1]}", "masked_tiny", "preprocess.py"):
            asked(settings("--masked", *flags)).settings()


@pytest.mark.parametrize("text, named", [
    ("(8,2)\t5\t6\n", "for each of 2 users"), ("(8,2)\t5\t6\n(5,4)\t7\n", "equally many"),
    ("(8,2)\t5\t6\n(5,4)\t7\t99\n", "the item '99'"), ("(8,2)\t5\t6\n(8,2)\t7\t6\n", "a user twice"),
    ("(8,2)\t5\t6\n(5,3)\t7\t8\n", "another test item than tiny for 1 users, e.g. user 5"),
    ("(8,2)\t5\t6\n(5,4)\t1\t8\n", "1 candidates are training"), ("(8,x)\t5\t6\n(5,4)\t1\t8\n", "the item 'x'"),
    ("(08,2)\t5\t6\n(5,4)\t1\t8\n", "the user '08'"), ("8\t5\t6\n(5,4)\t1\t8\n", "equally many")])
def test_unfit_negatives_are_named(write_ratings, settings, tmp_path, text, named):
    write_ratings(ROWS, items=range(12))
    path = tmp_path / "test.negative"
    path.write_text(text)
    with refused(f"--eval_negatives {path}", named):
        evaluation_candidates(load_dataset(settings()), "test", settings("--eval_negatives", path))


def test_interactions_of_a_program_elsewhere_are_split_in_one_call():
    d = split("own", Ids(np.array([7, 9]), np.arange(6)), ([1, 0, 1, 0, 0], [5, 0, 4, 1, 2], [2, 0, 1, 9, 3]))
    assert (d.user.tolist(), d.item.tolist(), d.validation.tolist(), d.test.tolist()) == ([0], [0], [2, 4], [1, 5])
    assert split("own", d.ids, (d.user, d.item, d.time), 0).num_interactions == 1
