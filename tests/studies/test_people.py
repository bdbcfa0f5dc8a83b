"""The study of people: what each kind minds, and the table of groups on trainings that are made up."""
import numpy as np
import pandas as pd
import pytest

from src.common.variant import ratings_path
from src.consent.unwillingness import load_stated
from src.dataset import load_dataset
from src.sources.catalogue import genres_of
from studies.grid import Study
from studies.masks import Masks
from studies.people import EXTREME, KINDS, SOME, people, stated
from tests.common.test_figures import is_png
from tests.small import SMALL, refused


def test_what_each_kind_minds(cpu, simulated):
    config = simulated(200, 60, 4000, *SMALL)
    dataset, study = load_dataset(config), Study("people", __name__, config)
    b = {kind: load_stated(dataset, config.replace(**stated(study, dataset, kind, config.seed)))[0] for kind in KINDS}
    own, (never, all_of_it) = dataset.user, (dataset.history.sums(b["mixed"] == value) for value in (0, 1))
    assert [sum(found == dataset.history.length) for found in (never, all_of_it)] == [EXTREME * 200] * 2
    others = dataset.history.each((never == 0) & (all_of_it == 0))
    assert np.array_equal(b["mixed"][others], b["uniform"][others]) and len(own) / 2 < others.sum() < len(own)
    rules, (pairs, names) = pd.read_csv(study.folder / "genre" / f"rules_{config.seed}.csv"), genres_of(dataset, config)
    hidden = {(user, names.get_loc(genre)) for user, genre in zip(rules.user_id, rules.genre)}
    assert set(rules.groupby("user_id").genre.nunique()) == {1, 2} and rules.user_id.nunique() == 200
    met = [hidden & {(dataset.user_ids[user], genre) for genre in pairs.genre[pairs.item_id == item]}
           for user, item in zip(own, dataset.item)]
    assert set().union(*met) == hidden and b["genre"].tolist() == [bool(rules) for rules in met]
    order = np.argsort(np.bincount(dataset.item)[dataset.item])
    assert (np.diff(b["rarity"][order]) <= 0).all() and b["rarity"].mean() == pytest.approx(0.5)
    assert set(np.unique(b["some"])) == {0, 1} and b["some"].mean() == pytest.approx(SOME, abs=0.015)
    assert b["ratings"] == pytest.approx((5 - pd.read_csv(ratings_path(config)).rating.to_numpy()[dataset.rows]) / 4)


def test_who_pays(cpu, simulated, tmp_path, monkeypatch):
    """Trainings serve a user's test item first where all that they have is disclosed, and last where it is not."""
    trained = []

    def train(self, disclosed, validation):
        trained.append(disclosed)
        rank = np.where(self.dataset.history.sums(~disclosed) > 0, 50, 0)
        return np.stack([rank + 0.5, rank, rank])
    monkeypatch.setattr(Masks, "_train", train)
    config = simulated(40, 60, 800, *SMALL, "--seeds", 2, "--people_kinds", "mixed,some,rarity", "--train_epochs", 1)
    people(config)
    table = pd.read_csv(tmp_path / "output" / "people.csv")
    groups = {"mixed": ["mind everything", "others", "never mind"], "some": ["hide", "free"], "rarity": ["hide", "free"]}
    whole, part = table[table.group == "all"], table[table.group != "all"]
    played = ["threshold", "ifrqe", "ask-first"]
    assert list(whole.point) == [*["none", *played, "not hidden"] * 2, "none", *played] and (table.seed == 2).all()
    assert (whole.wv_share[whole.point.isin(played)] <= 0.6 + 1e-9).all()
    assert (whole.users == 40).all() and (part.groupby(["kind", "point"]).users.sum() == 40).all()
    assert {kind: list(rows.group.unique()) for kind, rows in part.groupby("kind", sort=False)} == groups
    veto = part[part.point == "not hidden"]
    assert (veto.hidden_share.dropna() == 0).all() and list(veto.group) == [*groups["mixed"], *groups["some"]]
    assert veto["hr@3"].tolist() == [0, 1, 1, 0, 1] and veto["gain_full_hr@3"].tolist() == [-1, 0, 0, -1, 0]
    assert is_png(tmp_path / "output" / "people.png") and "| some | free" in (tmp_path / "output" / "people.md").read_text()
    people(config)
    assert len(trained) == 1 + 3 * 3 + 2  # everything disclosed once for all kinds, and nothing again


@pytest.mark.parametrize("flags, named", [
    (["--veto"], ["--veto", "--people_kinds"]), (["--people_kinds", "mixed,sometimes"], ["sometimes"]),
    (["--people_kinds", "uniform,ratings"], ["--people_kinds uniform,ratings", "ratings.csv"]),
    (["--people_kinds", "genre"], ["--people_kinds genre", "movies.csv"])])
def test_refusals(cpu, ratings, settings, flags, named):
    with refused(*named):
        people(settings(*SMALL, *flags))
