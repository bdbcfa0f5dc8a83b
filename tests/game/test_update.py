"""An update: all files are what the stages read, nothing that was decided or trained has moved, and nothing is ever lost."""
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from src.common.files import digest
from src.common.variant import Variant, check_tables, dataset_folder
from src.consent.allowed import VETO
from src.constants import MASKED_MODEL
from src.dataset import load_dataset
from src.game.decisions import dataset_of, read_decisions
from src.game.update import update
from src.training.checkpoint import load_sets

COLUMNS = ("user_id", "item_id", "timestamp", "unwillingness")
T = 1_700_000_000  # after all that is there
ROWS = [(3, 49, T, .1), (901, 1, T + 1, .1), (901, 2, T + 2, .9), (901, 3, T + 3, 0), (901, 5, 5, .5), (902, 7, T, .95),
        (1, 46, T, .05), (40, 46, 7, .02), (40, 47, T, 1), (17, 49, T, .4)]
SOURCE, MASKED = "data/shop/ratings.csv", "data/masked_shop/ratings.csv"


class Shop:
    """A run in a folder that updates come to."""

    def __init__(self, config):
        self.config, self.folder = config, Path(config.data_path).parent

    def give(self, rows=ROWS, columns=COLUMNS, name="update.csv", **changes):
        """Updates by a file of these rows."""
        path = self.folder / name
        pd.DataFrame(rows, columns=columns).to_csv(path, index=False)
        update(self.config.replace(update=str(path), **changes))

    def table(self, name):
        return pd.read_csv(self.folder / name, dtype={"user_id": str, "item_id": str})

    def record(self, name="output/preprocess.json"):
        return json.loads((self.folder / name).read_text())

    def state(self):
        """Digest of every file of the run but logs and hidden ones."""
        return {str(path.relative_to(self.folder)): digest(path) for part in ("data", "output", "checkpoint")
                for path in sorted((self.folder / part).rglob("*"))
                if path.is_file() and path.suffix not in (".log", ".lock") and not path.name.startswith(".")}

    def models(self):
        """Of both models by name: their parameters, info and Dataset."""
        found = {}
        for masked in (False, True):
            variant = Variant(self.config.replace(masked=masked), masked)
            dataset = load_dataset(variant.config, masked=True) if masked else dataset_of(variant)
            net, sets, info = load_sets(variant.checkpoint, dataset, variant)
            found[variant.model] = net, sets, info, dataset
        return found

    def decisions(self):
        dataset = dataset_of(Variant(self.config, True))
        return dataset, read_decisions(self.config, dataset, masked=True, needed=True)


def pairs(table):
    return list(zip(table.user_id, table.item_id))


def listed(dataset):
    """(user, item) of a Dataset by their ids as text."""
    return list(zip(dataset.user_ids[dataset.user].astype(str), dataset.item_ids[dataset.item].astype(str)))


def check(shop, before, rows, vetoes=False):
    """All files after the update of some rows, given the tables, models and record of before."""
    tables, models, record, number = before
    fresh = pd.DataFrame(rows, columns=COLUMNS).astype({"user_id": str, "item_id": str})
    source, masked, decided = (shop.table(name) for name in (SOURCE, MASKED, "output/disclosure.csv"))
    pd.testing.assert_frame_equal(source[:len(tables[0])], tables[0], check_dtype=False)
    assert pairs(source[len(tables[0]):]) == pairs(fresh) and source.timestamp[len(tables[0]):].tolist() == [
        row[2] for row in rows]
    disclosed = set(pairs(decided[decided.disclosed == 1]))
    assert pairs(masked) == [pair for pair in pairs(source) if pair in disclosed]
    pd.testing.assert_frame_equal(masked[:len(tables[1])], tables[1], check_dtype=False)

    new = np.array([pair in set(pairs(fresh)) for pair in pairs(decided)])
    old = decided[~new].set_index(["user_id", "item_id"])
    pd.testing.assert_frame_equal(old, tables[2].set_index(["user_id", "item_id"]).loc[old.index], check_dtype=False)
    assert len(old) == len(tables[2]) and new.sum() == len(fresh)
    b = fresh.set_index(["user_id", "item_id"]).unwillingness
    forbidden = decided.reason.str.startswith("veto")
    assert decided.reason[new & ~forbidden].str.startswith(f"update {number}: ").all()
    assert (decided.unwillingness[new].to_numpy() == b[pairs(decided[new])].to_numpy()).all()
    assert (forbidden[new] == ((decided.unwillingness[new] == 1) & vetoes)).all() and not decided.disclosed[forbidden].any()

    said, open_ones, users = shop.record(), decided[~forbidden], decided.user_id.nunique()
    spent = open_ones.unwillingness[open_ones.disclosed == 1].sum()
    assert said["num_users"] == users and said["num_interactions"] == len(open_ones)
    assert said["wv"] == pytest.approx(spent / users) and said["total_wv"] == pytest.approx(
        open_ones.unwillingness.sum() / users)
    assert said["disclosed_share"] == pytest.approx(open_ones.disclosed.mean())
    assert said["vetoed"] == forbidden.sum() and said["willingness_weight"] == record["willingness_weight"]
    more = open_ones.unwillingness[new[~forbidden] & (open_ones.disclosed == 1)].sum()
    assert said["spent_wv"] * users == pytest.approx(record["spent_wv"] * record["num_users"] + more)
    if said["strategy"] != "none" and said["wv_budget"]:
        assert spent <= said["wv_budget"] * open_ones.unwillingness.sum() * (1 + 1e-9)
    told = said["updates"][-1]
    assert len(said["updates"]) == number and told["file_sha256"] == digest(shop.folder / "update.csv")
    assert (told["interactions"], told["users"]) == (len(fresh), fresh.user_id.nunique())
    assert told["disclosed"] == decided.disclosed[new].sum()

    dataset, decisions = shop.decisions()
    assert listed(dataset) == pairs(open_ones) and decisions.disclosed.tolist() == (open_ones.disclosed == 1).tolist()
    assert ([] if dataset.dropped is None else dataset.dropped.why.tolist()) == [VETO] * forbidden.sum()
    for masked in (False, True):
        check_tables(dataset_folder(shop.config, masked))
    now = load_dataset(shop.config)  # of now, by which the next mask goes
    assert set(listed(now)) == set(pairs(open_ones))
    after = shop.models()
    assert set(listed(after[MASKED_MODEL][3])) == disclosed
    assert set(listed(after[shop.config.plain_model][3])) == set(pairs(open_ones))
    for name, (net, sets, info, data) in after.items():
        _, were, was, then = models[name]
        known = len(tables[name == MASKED_MODEL]) if number == 1 else was["trained_rows"]
        assert info["trained_rows"] == known and told["models"][name] == info["parameters_sha256"]
        trained = {user for user, _ in listed(then.part(then.rows < known))}
        ids, earlier = data.user_ids.astype(str).tolist(), then.user_ids.astype(str).tolist()
        place, there = [ids.index(user) for user in trained], [earlier.index(user) for user in trained]
        others = np.setdiff1d(np.arange(len(ids)), place)
        for prefix, values in sets.items():
            for key, value in values.items():
                if key in net.of_users():
                    assert (value[place] == were[prefix][key][there]).all() and np.isfinite(value).all()
                else:
                    assert (value == were[prefix][key]).all()
            seen = np.unique([ids.index(user) for user, _ in listed(data) if ids.index(user) in set(others)])
            assert len(np.unique(net.user_rows(values)[seen.astype(int)], axis=0)) >= min(2, len(seen))


def before(shop, number=1):
    return [shop.table(name) for name in (SOURCE, MASKED, "output/disclosure.csv")], shop.models(), shop.record(), number


MORE = [(902, 8, T + 5, .3), (902, 9, T + 6, .2), (55, 1, T, .1), (901, 8, T + 9, .01), (2, 48, 12, .2)]


@pytest.mark.parametrize("strategy, options", [
    *((strategy, []) for strategy in ("ifrqe", "ask-first", "ifrqe++", "threshold", "none")),
    ("ask-first", ["--model", "mf"]), ("ifrqe", ["--model", "lightgcn"]), ("ifrqe", ["--willingness_weight", .05]),
    ("ask-first", ["--wv_budget", .2])])
def test_all_files_are_what_every_stage_reads(cpu, product, strategy, options):
    shop = Shop(product(strategy, *options))
    for number, rows in enumerate((ROWS, MORE), 1):
        was = before(shop, number)
        shop.give(rows)
        check(shop, was, rows)
        now = shop.state()
        shop.give(rows)  # once more, which changes nothing
        assert shop.state() == now
