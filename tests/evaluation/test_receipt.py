"""Receipts: that they say what the files say, that every kind of change is found, and that they can be imported."""
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from eval import run as answer
from src.common.errors import InputError
from src.common.files import digest, read_json, write_json
from src.common.stage import main
from src.common.variant import Variant, asked
from src.consent.receipts import read_receipt, sealed, text_of
from src.consent.unwillingness import load_unwillingness
from src.consent.withdrawn import read_requests, with_request, withdrawn_path
from src.dataset import load_dataset
from src.evaluation.receipt import file_stem
from src.evaluation.withdraw import withdraw as carry_out
from src.game.decisions import read_decisions
from src.training.checkpoint import BEST, load_sets, save_checkpoint
from tests.evaluation.test_recommend import flags
from tests.report.conftest import copied  # noqa: F401, a fixture
from tests.report.reading import Page

USER = 7


@pytest.fixture
def run(copied, capsys):  # noqa: F811
    """run(*flags) -> what eval.py prints, its error line and whether it ended well, in a run that may be changed."""
    def go(*more):
        try:
            main(answer, "run_eval", "", flags(copied, "--log_level", "quiet", *more))
            ended = 0
        except SystemExit as e:
            ended = e.code
        said = capsys.readouterr()
        return said.out, said.err, ended
    return go


@pytest.fixture
def receipt(run, copied):  # noqa: F811
    """Path of the JSON of a receipt of USER; the page lies beside it."""
    assert run("--receipt", USER)[2] == 0
    return Path(copied.output_path) / f"receipt_{USER}.json"


def faults(run, path):
    """The names of the checks that fail, by the fault; the program must end as it should."""
    out, err, ended = run("--verify_receipt", path, "--format", "json")
    found = {row["check"]: row["fault"] for row in json.loads(out)["checks"] if not row["ok"]}
    assert ended == (2 if found else 0) and err.count("\n") == bool(found)
    return found


def refused(run, path):
    out, err, ended = run("--verify_receipt", path)
    return ended == 2 and err.count("\n") == 1 and f"{path}: is no receipt, or was altered" in err and out == ""


def withdraw(config, items, models=("NCF", "IFRQE"), rules=None):
    """Adds a request to the record, and nothing else."""
    line, _ = with_request({"time": "2026-11-26T10:00:00Z", "models": list(models), "file_sha256": "0" * 64, "before": {},
                            "after": {"IFRQE.ckpt": "1" * 64}, "interactions": [[USER, int(i)] for i in items],
                            "rules": rules or [[USER, int(i), None] for i in items], "forbidden": []}, read_requests(config))
    with open(withdrawn_path(config), "a") as file:
        file.write(line + "\n")


def of_user(config, name="disclosure.csv"):
    table = pd.read_csv(Path(config.output_path) / name, float_precision="round_trip")
    return table[table.user_id == USER].set_index("item_id")


def masked_ratings(config):
    return Path(config.data_path) / "masked_simulation" / "ratings.csv"


def rewrite(path, table):
    """Writes a table of the masked dataset as somebody does who keeps its record true."""
    table.to_csv(path, index=False)
    record = read_json(path.with_name("dataset.json"), "")
    record["files_sha256"][path.name] = digest(path)
    write_json(path.with_name("dataset.json"), record)


def plant(config, item, name="ratings.csv"):
    """Adds a pair of USER to a table of the masked dataset."""
    path = masked_ratings(config).with_name(name)
    table = pd.read_csv(path)
    row = table[table.user_id == USER].iloc[[0]].assign(item_id=item, timestamp=table.timestamp.min())
    rewrite(path, pd.concat([table, row]))


def take_out(config, item):
    """Removes a pair of USER from the masked ratings."""
    table = pd.read_csv(masked_ratings(config))
    rewrite(masked_ratings(config), table[(table.user_id != USER) | (table.item_id != item)])


def test_it_says_what_the_files_say(run, receipt, copied):  # noqa: F811
    found, table, dataset = read_receipt(receipt), of_user(copied), load_dataset(copied)
    rows = pd.DataFrame(found["interactions"]).set_index("item_id")
    assert found["user_id"] == USER and sorted(rows.index) == sorted(table.index)
    assert set(found["vetoes"]) == set(table.index[table.unwillingness == 1]) and found["vetoes"]
    for column in ("unwillingness", "disclosed"):
        assert rows[column].to_dict() == table[column].to_dict()
    for column in ("influence", "expected_influence"):
        assert rows[column].drop(found["vetoes"]).to_dict() == table[column].drop(found["vetoes"]).to_dict()
        assert rows[column][found["vetoes"]].isna().all()
    assert rows["by"].to_dict() == table["reason"].to_dict()
    assert all(by.startswith("veto unwillingness.csv:") for by in rows["by"][found["vetoes"]])
    assert (rows.state == "vetoed").sum() == len(found["vetoes"])
    assert rows.loc[found["vetoes"], "reason"].unique() == ["withheld: they forbade it"]
    held = [dataset.item_ids[i] for i in (dataset.test[USER - 1], dataset.validation[USER - 1])]
    assert [(row["item_id"], row["trains"]) for row in found["held_out"]] == [(i, False) for i in held]
    assert list(found["files"]) == ["simulation/ratings.csv", "masked_simulation/ratings.csv",
                                    "masked_simulation/held_out.csv", "disclosure.csv", "preprocess.json", "IFRQE.ckpt"]
    assert all(len(file["sha256"]) == 64 for file in found["files"].values())
    assert found["files"]["IFRQE.ckpt"]["ratings_sha256"] == found["files"]["masked_simulation/ratings.csv"]["sha256"]
    assert found["rules"] == [[USER, item, row.unwillingness] for item, row in rows.iterrows()]
    assert "it is not signed, and says nothing of other files or models" in found["proves"]
    page = Page(receipt.with_suffix(".html").read_text())
    assert "it is not signed" in " ".join(" ".join(page.text).split())
    assert all(title in page.text for title in rows.title)
    assert not any(name in ("src", "href") and not value.startswith("data:") for _, given in page.tags
                   for name, value in given.items())
    assert faults(run, receipt) == {}
    assert "ok     nothing vetoed is in the masked data" in run("--verify_receipt", receipt)[0]


def is_found(path):
    """Whether an altered receipt is refused when it is read."""
    try:
        return not read_receipt(path)
    except InputError as e:
        return "is no receipt, or was altered after it was written" in str(e)


def test_every_altered_byte_is_found(run, receipt, tmp_path):
    path, content = tmp_path / receipt.name, receipt.read_bytes()
    for place in np.linspace(0, len(content) - 1, 150).astype(int):
        for put in (bytes([content[place] ^ 1]), b" " + content[place:place + 1], b""):
            path.write_bytes(content[:place] + put + content[place + 1:])
            assert path.read_bytes() == content or is_found(path), place
    for altered in (content.replace(b"false", b"true", 1), content.replace(b'"format": 1', b'"format":  1'), content[:-1],
                    content + b" ", b"", b"[]", b"{}", b"\xff" + content, content.replace(b"{", b'{"made": 1,', 1)):
        path.write_bytes(altered)
        assert refused(run, path)


@pytest.mark.parametrize("key, change, named", [
    ("interactions", lambda rows: [{**rows[0], "unwillingness": 0.5}, *rows[1:]], "interactions"),
    ("interactions", lambda rows: rows[1:], "interactions"),
    ("interactions", lambda rows: [*rows, rows[0]], "interactions"),
    ("interactions", lambda rows: [{**rows[0], "title": "<b>"}, *rows[1:]], "interactions"),
    ("interactions", lambda rows: 5, "interactions"),
    ("vetoes", lambda items: [], "vetoes"),
    ("rules", lambda rows: rows[::-1], "rules"),
    ("withdrawals", lambda found: [{"request": 1}], "withdrawals"),
    ("decision", lambda found: {**found, "wv_budget": 0.1}, "decision"),
    ("held_out", lambda rows: [{**row, "trains": True} for row in rows], "held_out"),
    ("proves", lambda text: "everything", "proves"),
    ("signed_by", lambda nothing: "the recommender", "nothing else is said"),
    ("interactions", lambda rows: [{**rows[0], "by": "nobody"}, *rows[1:]], "interactions"),
    ("files", lambda found: {**found, "disclosure.csv": {"sha256": "0" * 64}}, "disclosure.csv"),
    ("files", lambda found: None, "preprocess.json"),
])
def test_a_forged_content_with_a_digest_of_its_own_is_found(run, receipt, key, change, named):
    content = read_receipt(receipt)
    del content["receipt_sha256"]
    receipt.write_text(text_of(sealed({**content, key: change(content.get(key))})))
    found = faults(run, receipt)
    assert any(name.startswith(named) for name in found) and (key == "files" or len(found) == 1)


@pytest.mark.parametrize("state", ["vetoed", "withheld"])
def test_what_is_not_disclosed_is_found_in_the_masked_data(run, receipt, copied, state):  # noqa: F811
    row = next(row for row in read_receipt(receipt)["interactions"] if row["state"] == state)
    plant(copied, row["item_id"])
    found = faults(run, receipt)
    assert set(found) == {"masked_simulation/ratings.csv is what it was", "IFRQE.ckpt is what it was",
                          f"nothing {state} is in the masked data", "nothing else is in the masked data"}
    assert f"item {row['item_id']} ({row['title']}) is" in found[f"nothing {state} is in the masked data"]
    assert "is stale" in found["IFRQE.ckpt is what it was"]
    assert run("--receipt", USER)[2] == 0  # a new receipt is no way out
    assert list(faults(run, receipt)) == [f"nothing {state} is in the masked data", "nothing else is in the masked data"]


def test_what_is_held_out_is_found_among_what_trains_and_the_other_way_round(run, receipt, copied):  # noqa: F811
    found = read_receipt(receipt)
    held = found["held_out"][0]["item_id"]
    table = pd.read_csv(masked_ratings(copied).with_name("held_out.csv"))
    mine = table[(table.user_id == USER) & (table.item_id == held)]
    kept = next(row["item_id"] for row in found["interactions"] if row["state"] == "disclosed")
    ratings = pd.read_csv(masked_ratings(copied))
    swapped = ratings[(ratings.user_id == USER) & (ratings.item_id == kept)]
    rewrite(masked_ratings(copied), pd.concat([ratings.drop(swapped.index), mine]))
    rewrite(masked_ratings(copied).with_name("held_out.csv"), pd.concat([table.drop(mine.index), swapped]))
    found = faults(run, receipt)
    assert "masked_simulation/held_out.csv is what it was" in found
    assert found["nothing else is in the masked data"].startswith(f"item {min(map(str, (held, kept)))} is")
    assert found["all that is disclosed is in the masked data"].startswith(f"item {kept} is not")


def test_masked_data_that_are_not_what_their_record_says_are_refused(run, receipt, copied):  # noqa: F811
    with open(masked_ratings(copied), "a") as file:
        file.write(f"{USER},119,3,1\n")
    assert "masked_simulation/ratings.csv: is missing, or is not what dataset.json says" in \
        faults(run, receipt)["the decisions can be read"]
    assert run("--receipt", USER)[2] == 2


def test_what_they_never_had_and_what_is_missing_is_found(run, receipt, copied):  # noqa: F811
    found = read_receipt(receipt)
    known = {row["item_id"] for part in ("interactions", "held_out") for row in found[part]}
    odd = min(set(range(1, 121)) - known)
    plant(copied, odd)
    assert faults(run, receipt)["nothing else is in the masked data"].startswith(f"item {odd} is")
    lost = next(row["item_id"] for row in found["interactions"] if row["disclosed"])
    take_out(copied, lost)
    assert faults(run, receipt)["all that is disclosed is in the masked data"].startswith(f"item {lost} ")


def test_other_decisions_are_found(run, receipt, copied):  # noqa: F811
    path = Path(copied.output_path) / "disclosure.csv"
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    place = table.index[(table.user_id == str(USER)) & (table.disclosed == "1")][0]
    table.loc[place, "disclosed"] = "0"
    table.to_csv(path, index=False)
    found = faults(run, receipt)
    assert set(found) == {"disclosure.csv is what it was", "the decisions can be read"}
    assert "disclosure.csv: is not what preprocess.json says" in found["the decisions can be read"]
    record = read_json(path.with_name("preprocess.json"), "")  # which may be made to say it
    write_json(path.with_name("preprocess.json"), {**record, "disclosure_sha256": digest(path)})
    found = faults(run, receipt)
    assert set(found) == {"disclosure.csv is what it was", "preprocess.json is what it was",
                          "interactions: as the files say", "nothing withheld is in the masked data",
                          "nothing else is in the masked data"}
    assert f"item {table.item_id[place]} differs" in found["interactions: as the files say"]


def test_a_checkpoint_that_is_gone_stale_or_another(run, receipt, copied):  # noqa: F811
    checkpoint = Path(copied.checkpoint_path) / "IFRQE.ckpt"
    kept, other = checkpoint.read_bytes(), checkpoint.with_name("other.ckpt")
    sets, info = load_sets(checkpoint, load_dataset(copied, masked=True), Variant(copied, masked=True))
    save_checkpoint(other, {**sets, BEST: {name: 1.5 * value for name, value in sets[BEST].items()}}, info)
    for content, said in ((None, "no model was trained"), (b"damaged", "is damaged"),
                          ((checkpoint.parent / "NCF.ckpt").read_bytes(), "is stale"),
                          (other.read_bytes(), "is not what a training or a withdrawal wrote")):
        checkpoint.write_bytes(content) if content else checkpoint.unlink()
        found = faults(run, receipt)
        assert list(found) == ["IFRQE.ckpt is what it was"] and said in found["IFRQE.ckpt is what it was"]
    checkpoint.unlink()
    assert run("--receipt", USER)[2] == 0
    entry = read_receipt(receipt)["files"]["IFRQE.ckpt"]
    assert entry["sha256"] is None and "train.py --dataset simulation --masked" in entry["why"] and not faults(run, receipt)
    checkpoint.write_bytes(kept)
    assert "get a new receipt" in faults(run, receipt)["IFRQE.ckpt is what it was"]


def test_withdrawals_are_on_it_and_later_ones_are_missed(run, receipt, copied):  # noqa: F811
    rows = [row for row in read_receipt(receipt)["interactions"] if row["disclosed"]]
    withdraw(copied, [rows[0]["item_id"]])
    found = faults(run, receipt)
    assert set(found) == {"the decisions can be read"} and run("--receipt", USER)[2] == 2  # of data that still hold it
    assert "masked_simulation: holds what was withdrawn since it was made" in found["the decisions can be read"]
    take_out(copied, rows[0]["item_id"])
    found = faults(run, receipt)
    assert "request 1 of 2026-11-26 is not on it yet; get a new receipt" in found["withdrawals: as the files say"]
    assert f"item {rows[0]['item_id']} differs" in found["interactions: as the files say"]
    assert set(found) == {"masked_simulation/ratings.csv is what it was", "IFRQE.ckpt is what it was",
                          *(f"{key}: as the files say" for key in ("interactions", "withdrawals", "rules"))}
    withdraw(copied, [rows[0]["item_id"] + 500], ["NCF"], [[USER, None, "Nonsense"]])
    assert run("--receipt", USER)[2] == 0
    now = read_receipt(receipt)
    row = next(row for row in now["interactions"] if row["item_id"] == rows[0]["item_id"])
    assert (row["state"], row["disclosed"]) == ("withdrawn", False)
    assert (row["reason"], row["by"]) == ("withdrawn on 2026-11-26 (request 1)", "withdrawn 1")
    assert [(w["models"], w["rules"]) for w in now["withdrawals"]] == [
        (["NCF", "IFRQE"], [[row["item_id"], None]]), (["NCF"], [[None, "Nonsense"]])]
    assert [USER, row["item_id"], 1.0] in now["rules"] and [w["request"] for w in now["withdrawals"]] == [1, 2]
    assert "withdrawn on 2026-11-26 (request 1)" in receipt.with_suffix(".html").read_text()
    assert [w["items"] for w in now["withdrawals"]] == [[row["item_id"]], [row["item_id"] + 500]]
    assert faults(run, receipt) == {} and "is stale" in now["files"]["IFRQE.ckpt"]["why"]  # it says so itself
    withdrawn_path(copied).write_text(withdrawn_path(copied).read_text().replace("NCF", "XYZ").replace("10:00", "11:00"))
    assert "line 2 was changed, or one before it" in faults(run, receipt)["the decisions can be read"]


def test_importing_it_gives_the_same_unwillingness(run, receipt, copied, tmp_path):  # noqa: F811
    dataset = load_dataset(copied)
    said = read_decisions(copied, dataset).unwillingness[dataset.user == USER - 1]
    vetoes = read_receipt(receipt)["vetoes"]
    for source, of_others in (("auto", 0), ("constant", 0.5)):  # whom no rule meets has nothing against it
        config = copied.replace(willingness_file=str(receipt), unwillingness=source)
        imported = load_dataset(config)
        found, mine = load_unwillingness(imported, config), imported.user == USER - 1
        assert np.array_equal(found[mine], said) and (found[~mine] == of_others).all()
        assert (imported.dropped.user == USER - 1).all() and len(vetoes) > 1
        assert imported.item_ids[imported.dropped.item].tolist() == vetoes
        whole = load_dataset(config.replace(veto=False))  # then they are unwilling, and no more
        found = load_unwillingness(whole, config.replace(veto=False))[whole.user == USER - 1]
        assert whole.dropped is None and (found == 1).any() and set(found) <= {*said, 1, of_others}
    with pytest.raises(InputError, match="receipt_7.html: is a page for people; name the receipt, receipt_7.json"):
        load_dataset(copied.replace(willingness_file=str(receipt.with_suffix(".html"))))
    content = read_receipt(receipt)
    del content["receipt_sha256"]
    path = tmp_path / "bad.json"
    for change in ({"rules": 5}, {"rules": [[1, 2, "x"]]}, {"rules": [[USER, 1, 1.5]]}, {"format": 9}, None):
        path.write_text(text_of(sealed({**content, **change})) if change else "none of ours")
        with pytest.raises(InputError, match=str(path)):
            load_dataset(copied.replace(willingness_file=str(path)))


def test_hostile_titles_and_ids_do_no_harm(run, copied):  # noqa: F811
    path = Path(copied.data_path) / "simulation" / "movies.csv"
    movies = pd.read_csv(path)
    movies["title"] = [f"</script><img src=x>{{{{ 7*7 }}}}\u202e\u2028{k}" for k in range(len(movies))]
    movies.to_csv(path, index=False)
    path.with_name("dataset.json").unlink()
    assert run("--receipt", f"{USER},8")[2] == 0
    for user in (USER, 8):
        receipt = Path(copied.output_path) / f"receipt_{user}.html"
        text = receipt.read_text()
        assert "<img" not in text and "</script>" not in text and "{{ 7*7 }}" in text
        assert faults(run, receipt.with_suffix(".json")) == {}


def test_names_of_files_are_safe_and_different():
    ids = ["../../etc/passwd", "a/b", "a%2Fb", "a b", ".", "Ä", "A\u0308", "x" * 300, "x" * 301, "<b>", "a\\b", 42, "-rf"]
    stems = [file_stem(i) for i in ids]
    assert len(set(stems)) == len(ids) and file_stem(42) == "receipt_42"
    assert all(len(stem) < 120 and "/" not in stem and "\\" not in stem and stem.isascii() for stem in stems)
    assert file_stem(file_stem("x" * 300)[len("receipt_"):]) != file_stem("x" * 300)


def test_errors_are_one_line(run, copied, receipt, tmp_path):  # noqa: F811
    for more, said in ((("--receipt", "999"), "--receipt 999: no user '999' in simulation"),
                       (("--receipt", "7", "--holdout", "1"), "--holdout 1: leaves no validation item"),
                       (("--receipt", "7", "--decisions_path", tmp_path / "none"), "no decisions on simulation"),
                       (("--verify_receipt", tmp_path / "none.json"), "No such file or directory; name a receipt"),
                       (("--verify_receipt", tmp_path), "name a receipt"),
                       (("--verify_receipt", receipt.with_suffix(".html")), "name the receipt, receipt_7.json")):
        out, err, ended = run(*more)
        assert ended == 2 and err.count("\n") == 1 and said in err and out == ""
    content = read_receipt(receipt)
    del content["receipt_sha256"]
    receipt.write_text(text_of(sealed({**content, "dataset": "ml-1m"})))
    assert "is about the dataset ml-1m; give --dataset ml-1m" in run("--verify_receipt", receipt)[1]
    receipt.write_text(text_of(sealed({**content, "user_id": "nobody"})))
    assert faults(run, receipt) == {"the decisions can be read": "simulation has no user nobody"}
    shutil.rmtree(masked_ratings(copied).parent)
    assert run("--receipt", USER)[2] == 0
    assert read_receipt(receipt)["files"]["masked_simulation/ratings.csv"] == {"sha256": None, "why": "no such file yet"}
    assert faults(run, receipt) == {}


def test_a_withdrawal_is_on_the_receipt_that_follows(cpu, run, receipt, copied):  # noqa: F811
    before, vetoes = of_user(copied), read_receipt(receipt)["vetoes"]
    held = [row["item_id"] for row in read_receipt(receipt)["held_out"]]
    path = Path(copied.output_path).parent / "request.csv"
    path.write_text(f"user_id\n{USER}\n")
    carry_out(asked(copied.replace(masked=True, withdraw=str(path))))
    assert run("--receipt", USER)[2] == 0
    assert faults(run, receipt) == {}
    found = read_receipt(receipt)
    request, = found["withdrawals"]
    assert (request["models"], request["rules"]) == (["NCF", "IFRQE"], [[None, None]])
    assert sorted(request["items"]) == sorted([*before.index.drop(vetoes), *held])  # all that is allowed
    assert sorted(request["forbidden"]) == sorted(vetoes)
    states = {row["item_id"]: (row["state"], row["by"], row["reason"][:12]) for row in found["interactions"]}
    assert {key: states[key] for key in request["items"]} == dict.fromkeys(
        request["items"], ("withdrawn", "withdrawn 1", "withdrawn on"))
    assert {states[key][0] for key in vetoes} == {"vetoed"} and found["vetoes"] == vetoes
    assert sorted(states) == sorted(request["items"] + vetoes) and found["held_out"] == []
    assert all(rule[2] == 1 for rule in found["rules"]) and len(found["rules"]) == len(states)
    assert all((row["influence"], row["expected_influence"], row["disclosed"]) == (None, None, False)
               for row in found["interactions"])
