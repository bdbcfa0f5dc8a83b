"""Receipts: that they say what the files say, that every kind of change is found, and that they can be imported."""
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from eval import run as answer
from src.common.files import digest, read_json, write_json
from src.common.stage import main
from src.common.variant import Variant, asked
from src.consent.receipts import read_receipt, sealed, text_of
from src.consent.unwillingness import load_stated
from src.consent.withdrawn import read_requests, withdrawn_path
from src.dataset import load_dataset
from src.evaluation.receipt import file_stem
from src.evaluation.request import allow
from src.evaluation.withdraw import withdraw
from src.game.decisions import read_decisions
from src.training.checkpoint import BEST, load_sets, save_checkpoint
from tests.report.reading import Page
from tests.small import flags, refused

USER = 7


@pytest.fixture
def run(copied, capsys):
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
def receipt(run, copied):
    """Path of the JSON of a receipt of USER; the page lies beside it."""
    assert run("--receipt", USER)[2] == 0
    return Path(copied.output_path) / f"receipt_{USER}.json"


def faults(run, path):
    """The names of the checks that fail, by the fault; the program must end as it should."""
    out, err, ended = run("--verify_receipt", path, "--format", "json")
    found = {row["check"]: row["fault"] for row in json.loads(out)["checks"] if not row["ok"]}
    assert ended == (2 if found else 0) and err.count("\n") == bool(found)
    return found


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


def move(config, items=(), name="ratings.csv", out=()):
    """Adds pairs of USER to a table of the masked dataset, and takes some out."""
    path = masked_ratings(config).with_name(name)
    table = pd.read_csv(path)
    mine = table.user_id == USER
    rows = table[mine].iloc[[0] * len(items)].assign(item_id=np.array(items, int), timestamp=table.timestamp.min())
    rewrite(path, pd.concat([table[~mine | ~table.item_id.isin(out)], rows]))


def content_of(path):
    """What a receipt says, without its digest."""
    return {key: value for key, value in read_receipt(path).items() if key != "receipt_sha256"}


def test_it_says_what_the_files_say(run, receipt, copied):
    found, table, dataset = read_receipt(receipt), of_user(copied), load_dataset(copied)
    rows = pd.DataFrame(found["interactions"]).set_index("item_id")
    assert found["user_id"] == USER and sorted(rows.index) == sorted(table.index)
    assert set(found["vetoes"]) == set(table.index[table.unwillingness == 1]) and found["vetoes"]
    for column, name in (("unwillingness", "unwillingness"), ("disclosed", "disclosed"), ("by", "reason")):
        assert rows[column].to_dict() == table[name].to_dict()
    for column in ("influence", "expected_influence"):
        assert rows[column].drop(found["vetoes"]).to_dict() == table[column].drop(found["vetoes"]).to_dict()
        assert rows[column][found["vetoes"]].isna().all()
    assert (rows.state == "vetoed").sum() == len(found["vetoes"])
    held = [dataset.item_ids[i] for i in (dataset.test[USER - 1], dataset.validation[USER - 1])]
    assert [(row["item_id"], row["trains"]) for row in found["held_out"]] == [(i, False) for i in held]
    assert list(found["files"]) == ["simulation/ratings.csv", "masked_simulation/ratings.csv",
                                    "masked_simulation/held_out.csv", "disclosure.csv", "preprocess.json", "IFRQE.ckpt"]
    assert all(len(file["sha256"]) == 64 for file in found["files"].values())
    assert found["files"]["IFRQE.ckpt"]["ratings_sha256"] == found["files"]["masked_simulation/ratings.csv"]["sha256"]
    assert found["rules"] == [[USER, item, row.unwillingness] for item, row in rows.iterrows()]
    page = Page(receipt.with_suffix(".html").read_text())
    assert found["proves"] in " ".join(" ".join(page.text).split()) and "not signed" in found["proves"]
    assert all(title in page.text for title in rows.title)
    assert not any(name in ("src", "href") and not value.startswith("data:") for _, given in page.tags
                   for name, value in given.items())
    assert faults(run, receipt) == {}
    assert "ok     nothing else is in the masked data" in run("--verify_receipt", receipt)[0]


def test_every_altered_byte_is_found(run, receipt, tmp_path):
    path, content = tmp_path / receipt.name, receipt.read_bytes()
    altered = [content.replace(b"false", b"true", 1), content.replace(b'"format": 1', b'"format":  1'), content[:-1],
               content + b" ", b"", b"[]", b"{}", b"\xff" + content, content.replace(b"{", b'{"made": 1,', 1)]
    for place in np.linspace(0, len(content) - 1, 40).astype(int):
        for put in (bytes([content[place] ^ 1]), b" " + content[place:place + 1], b""):
            altered.append(content[:place] + put + content[place + 1:])
    for found in altered:
        path.write_bytes(found)
        if found != content:
            with refused(path, "altered"):
                read_receipt(path)
    path.write_bytes(altered[0])
    out, err, ended = run("--verify_receipt", path)
    assert (out, err.count("\n"), ended) == ("", 1, 2) and str(path) in err


def test_a_forged_content_with_a_digest_of_its_own_is_found(run, receipt):
    content = content_of(receipt)
    for key, change, named in [
            ("interactions", lambda rows: [{**rows[0], "unwillingness": 0.5}, *rows[1:]], "interactions"),
            ("interactions", lambda rows: rows[1:], "interactions"),
            ("interactions", lambda rows: [*rows, rows[0]], "interactions"),
            ("interactions", lambda rows: [{**rows[0], "title": "<b>"}, *rows[1:]], "interactions"),
            ("interactions", lambda rows: 5, "interactions"), ("vetoes", lambda items: [], "vetoes"),
            ("rules", lambda rows: rows[::-1], "rules"), ("withdrawals", lambda found: [{"request": 1}], "withdrawals"),
            ("decision", lambda found: {**found, "wv_budget": 0.1}, "decision"),
            ("held_out", lambda rows: [{**row, "trains": True} for row in rows], "held_out"),
            ("proves", lambda text: "everything", "proves"),
            ("signed_by", lambda nothing: "the recommender", "signed_by"),
            ("files", lambda found: {**found, "disclosure.csv": {"sha256": "0" * 64}}, "disclosure.csv"),
            ("files", lambda found: None, "preprocess.json")]:
        receipt.write_text(text_of(sealed({**content, key: change(content.get(key))})))
        found = faults(run, receipt)
        assert any(name.startswith(named) for name in found) and (key == "files" or len(found) == 1), key


def test_masked_data_that_are_not_what_was_disclosed_are_found(run, receipt, copied):
    said, folder = read_receipt(receipt), masked_ratings(copied).parent
    kept, items = folder.with_name("kept"), {row["state"]: row["item_id"] for row in said["interactions"]}
    disclosed, vetoed, withheld = map(items.get, ("disclosed", "vetoed", "withheld"))
    held = said["held_out"][0]["item_id"]
    never = min(set(range(1, 121)) - {row["item_id"] for part in ("interactions", "held_out") for row in said[part]})
    nothing, everything = "nothing else is in the masked data", "all that is disclosed is in the masked data"
    shutil.copytree(folder, kept)
    for moves, named in (
            ([{"items": [withheld]}], {nothing: withheld}),
            ([{"items": [held], "out": [disclosed]}, {"items": [disclosed], "out": [held], "name": "held_out.csv"}],
             {nothing: min(map(str, (held, disclosed))), everything: disclosed}),
            ([{"items": [never]}], {nothing: never}), ([{"out": [disclosed]}], {everything: disclosed}),
            ([{"items": [vetoed]}], {nothing: vetoed})):
        shutil.rmtree(folder)
        shutil.copytree(kept, folder)
        for move_of in moves:
            move(copied, **move_of)
        found = faults(run, receipt)
        assert "is not of the masked data" in found.pop("IFRQE.ckpt is what it was")
        assert found.pop("masked_simulation/ratings.csv is what it was")
        assert (found.pop("masked_simulation/held_out.csv is what it was", None) is not None) == (len(moves) == 2)
        assert set(found) == set(named) and all(f"item {item} " in found[name] for name, item in named.items())
    assert run("--receipt", USER)[2] == 0  # a new receipt is no way out
    assert set(faults(run, receipt)) == set(named)
    with open(masked_ratings(copied), "a") as file:  # who does not keep the record true
        file.write(f"{USER},119,3,1\n")
    assert "ratings.csv" in faults(run, receipt)["the decisions can be read"] and run("--receipt", USER)[2] == 2


def test_other_decisions_are_found(run, receipt, copied):
    path = Path(copied.output_path) / "disclosure.csv"
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    place = table.index[(table.user_id == str(USER)) & (table.disclosed == "1")][0]
    table.loc[place, "disclosed"] = "0"
    table.to_csv(path, index=False)
    found = faults(run, receipt)
    assert set(found) == {"disclosure.csv is what it was", "the decisions can be read"}
    record = read_json(path.with_name("preprocess.json"), "")  # which may be made to say it
    write_json(path.with_name("preprocess.json"), {**record, "disclosure_sha256": digest(path)})
    found = faults(run, receipt)
    assert set(found) == {"disclosure.csv is what it was", "preprocess.json is what it was",
                          "interactions: as the files say", "nothing else is in the masked data"}
    assert f"item {table.item_id[place]} differs" in found["interactions: as the files say"]


def test_a_checkpoint_that_is_gone_stale_or_another(run, receipt, copied):
    checkpoint = Path(copied.checkpoint_path) / "IFRQE.ckpt"
    kept, other = checkpoint.read_bytes(), checkpoint.with_name("other.ckpt")
    _, sets, info = load_sets(checkpoint, load_dataset(copied, masked=True), Variant(copied, masked=True))
    save_checkpoint(other, {**sets, BEST: {name: 1.5 * value for name, value in sets[BEST].items()}}, info)
    for content, said in ((None, "no model was trained"), (b"damaged", "damaged"),
                          ((checkpoint.parent / "NCF.ckpt").read_bytes(), "is not of the masked data"),
                          (other.read_bytes(), "is not what a training, an update or a withdrawal wrote")):
        checkpoint.write_bytes(content) if content else checkpoint.unlink()
        found = faults(run, receipt)
        assert list(found) == ["IFRQE.ckpt is what it was"] and said in found["IFRQE.ckpt is what it was"]
    checkpoint.unlink()
    assert run("--receipt", USER)[2] == 0
    entry = read_receipt(receipt)["files"]["IFRQE.ckpt"]
    assert entry["sha256"] is None and "train.py --dataset simulation --masked" in entry["why"] and not faults(run, receipt)
    checkpoint.write_bytes(kept)
    assert "get a new receipt" in faults(run, receipt)["IFRQE.ckpt is what it was"]


def test_a_withdrawal_is_missed_and_is_on_the_receipt_that_follows(cpu, run, receipt, copied):
    before, said, folder = of_user(copied), read_receipt(receipt), masked_ratings(copied).parent
    vetoes, held = said["vetoes"], [row["item_id"] for row in said["held_out"]]
    path, old = Path(copied.output_path).parent / "request.csv", shutil.copytree(folder, folder.with_name("old"))
    path.write_text(f"user_id\n{USER}\n")
    withdraw(asked(copied.replace(masked=True, withdraw=str(path))))
    found, day = faults(run, receipt), read_requests(copied)[0]["time"][:10]
    assert "get a new receipt" in found["withdrawals: as the files say"]
    assert " differs" in found["interactions: as the files say"]
    assert "the decisions can be read" not in found and not any(name.startswith("nothing") for name in found)
    assert run("--receipt", USER)[2] == 0 and faults(run, receipt) == {}
    found = read_receipt(receipt)
    request, = found["withdrawals"]
    assert (request["models"], request["rules"]) == (["NCF", "IFRQE"], [[None, None]])
    assert sorted(request["items"]) == sorted([*before.index.drop(vetoes), *held])  # all that is allowed
    assert sorted(request["forbidden"]) == sorted(vetoes)
    states = {row["item_id"]: (row["state"], row["by"], row["reason"]) for row in found["interactions"]}
    assert {key: states[key] for key in request["items"]} == dict.fromkeys(
        request["items"], ("withdrawn", "withdrawn 1", f"withdrawn on {day} (request 1)"))
    assert {states[key][0] for key in vetoes} == {"vetoed"} and found["vetoes"] == vetoes
    assert sorted(states) == sorted(request["items"] + vetoes) and found["held_out"] == []
    assert all(rule[2] == 1 for rule in found["rules"]) and len(found["rules"]) == len(states)
    assert all((row["influence"], row["expected_influence"], row["disclosed"]) == (None, None, False)
               for row in found["interactions"])
    assert f"withdrawn on {day} (request 1)" in receipt.with_suffix(".html").read_text()
    shutil.rmtree(folder)
    shutil.copytree(old, folder)  # which still hold it
    assert "masked_simulation" in faults(run, receipt)["the decisions can be read"] and run("--receipt", USER)[2] == 2
    withdrawn_path(copied).write_text(withdrawn_path(copied).read_text().replace("NCF", "XYZ"))
    assert "withdrawn.jsonl" in faults(run, receipt)["the decisions can be read"]


def test_an_allowance_is_missed_and_told_apart_from_what_it_undoes(cpu, run, receipt, copied):
    path, rows = Path(copied.output_path).parent / "request.csv", of_user(copied)
    item = int(rows.index[rows.disclosed == 1][0])
    path.write_text(f"user_id\n{USER}\n")
    withdraw(asked(copied.replace(withdraw=str(path))))
    assert run("--receipt", USER)[2] == 0 and faults(run, receipt) == {}
    path.write_text(f"user_id,item_id\n{USER},{item}\n")
    allow(copied.replace(allow=str(path)))
    assert set(faults(run, receipt)) == {"withdrawals: as the files say"}
    assert run("--receipt", USER)[2] == 0 and faults(run, receipt) == {}
    found = read_receipt(receipt)
    first, second = found["withdrawals"]
    assert "allows" not in first and second["allows"] and second["items"] == [item] and second["rules"] == [[item, None]]
    state, = (row["state"] for row in found["interactions"] if row["item_id"] == item)
    assert state == "withdrawn"  # from this mask, whatever the next may have
    text = " ".join(Page(receipt.with_suffix(".html").read_text()).text)
    assert "1 interactions allowed again" in " ".join(text.split())


def test_importing_it_gives_the_same_unwillingness(run, receipt, copied, tmp_path):
    dataset, vetoes = load_dataset(copied), read_receipt(receipt)["vetoes"]
    said = read_decisions(copied, dataset).unwillingness[dataset.user == USER - 1]
    for source, of_others in (("auto", 0), ("constant", 0.5)):  # whom no rule meets has nothing against it
        config = copied.replace(willingness_file=str(receipt), unwillingness=source)
        imported = load_dataset(config)
        found, mine = load_stated(imported, config)[0], imported.user == USER - 1
        assert np.array_equal(found[mine], said) and (found[~mine] == of_others).all() and len(vetoes) > 1
        assert imported.item_ids[imported.dropped.item].tolist() == vetoes
        whole = load_dataset(config.replace(veto=False))  # then they are unwilling, and no more
        found = load_stated(whole, config.replace(veto=False))[0][whole.user == USER - 1]
        assert whole.dropped is None and (found == 1).any() and set(found) <= {*said, 1, of_others}
    path, content = tmp_path / "bad.json", content_of(receipt)
    for change in ({"rules": 5}, {"rules": [[1, 2, "x"]]}, {"rules": [[USER, 1, 1.5]]}, {"format": 9}, None):
        path.write_text(text_of(sealed({**content, **change})) if change else "none of ours")
        for file in (path, receipt.with_suffix(".html")):
            with refused(file):
                load_dataset(copied.replace(willingness_file=str(file)))


def test_hostile_titles_do_no_harm(run, copied):
    path = Path(copied.data_path) / "simulation" / "movies.csv"
    movies = pd.read_csv(path)
    movies.assign(title="</script><img src=x>{{ 7*7 }}\u202e\u2028").to_csv(path, index=False)
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


def test_errors_are_one_line(run, copied, receipt, tmp_path):
    for more, said in ((("--receipt", "999"), "--receipt 999"), (("--receipt", "7", "--holdout", "1"), "--holdout 1"),
                       (("--receipt", "7", "--decisions_path", tmp_path / "none"), "no decisions on simulation"),
                       (("--verify_receipt", tmp_path / "none.json"), "none.json"),
                       (("--verify_receipt", tmp_path), str(tmp_path)),
                       (("--verify_receipt", receipt.with_suffix(".html")), "receipt_7.html")):
        out, err, ended = run(*more)
        assert ended == 2 and err.count("\n") == 1 and said in err and out == ""
    content = content_of(receipt)
    receipt.write_text(text_of(sealed({**content, "dataset": "ml-1m"})))
    assert "--dataset ml-1m" in run("--verify_receipt", receipt)[1]
    receipt.write_text(text_of(sealed({**content, "user_id": "nobody"})))
    assert "no user 'nobody'" in faults(run, receipt)["the decisions can be read"]
    shutil.rmtree(masked_ratings(copied).parent)
    assert run("--receipt", USER)[2] == 0
    assert read_receipt(receipt)["files"]["masked_simulation/ratings.csv"] == {"sha256": None, "why": "no such file yet"}
    assert faults(run, receipt) == {}
