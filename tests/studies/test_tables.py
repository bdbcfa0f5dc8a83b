"""The tables of the trade-off study on known answers."""
import re

import numpy as np
import pandas as pd

from studies.tables import grouped, markdown, users_markdown


def test_the_table_has_a_line_for_each_budget_and_strategy():
    runs = pd.DataFrame([{"strategy": strategy, "budget": budget, "wv_share": budget, "spent_share": 1.0,
                          "disclosed_share": 0.5, "hr@10": hr, "loss": 1.0, "reward": None}
                         for budget in (0.1, 1.0, 0.05) for strategy, hr in (("none", 0.5), ("ifrqe", 0.6), ("ifrqe", 0.8))])
    lines = markdown(runs, ["hr@10"]).splitlines()
    assert lines[0] == "| budget | strategy | wv | spent | disclosed | HR@10 | loss | reward |"
    assert [re.findall(r"[\w.]+", line)[:2] for line in lines[2:]] == [
        [b, s] for b in ("5", "10", "100") for s in ("none", "ifrqe")]
    assert lines[3] == "| 5% | ifrqe | 5% | 100% | 50% | 0.7000 ± 0.1414 | 1.0000 ± 0.0000 |  |"


def test_personal_rows_stand_beside_the_trained_ones():
    runs = pd.DataFrame([{"strategy": "none", "budget": 1.0, "wv_share": 1.0, "spent_share": 1.0,
                          "disclosed_share": 1.0, "hr@10": 0.5,
                          "personal_hr@10": 0.625, "loss": 1.0, "reward": None}])
    lines = markdown(runs, ["hr@10"]).splitlines()
    assert lines[0] == "| budget | strategy | wv | spent | disclosed | HR@10 | PERSONAL_HR@10 | loss | reward |"
    assert lines[2] == "| 100% | none | 100% | 100% | 100% | 0.5000 | 0.6250 | 1.0000 |  |"


def test_users_are_compared_by_what_they_are():
    one = pd.DataFrame({"strategy": "ifrqe", "budget": 0.6, "user": range(8), "history": range(10, 18), "unwillingness": 1.0,
                        "gap": 60.0 * np.arange(8), "loss_change": [-1, -1, 1, -1, 1, 1, 1, 1], "hit_change": 0.0})
    other = one.assign(loss_change=-one.loss_change / 2)  # another seed: the mean counts
    for users, worse in ((one, [0, 0.5, 1, 1]), (pd.concat([one, other]), [0, 0.5, 1, 1]), (other, [1, 0.5, 0, 0])):
        assert grouped(users, "history").worse.tolist() == worse
    assert grouped(one, "history").index.tolist() == ["10 to 11", "12 to 13", "14 to 15", "16 to 17"]
    assert grouped(one, "gap").index[-1] == "360 to 420"
    assert "minutes" in users_markdown(one)
    assert "minutes" not in users_markdown(one.drop(columns="gap")) and "no times" in users_markdown(one.drop(columns="gap"))
    assert grouped(one, "unwillingness").users.tolist() == [8]
    text = users_markdown(one)
    assert "| ifrqe | all | 8 | +0.2500 | 62% |  | +0.000 |" in text
    assert "| ifrqe | history length: 10 to 11 | 2 | -1.0000 | 0% |  | +0.000 |" in text


def test_who_is_surely_worse_off():
    def seeds(*changes):
        same = {"strategy": "ifrqe", "budget": 0.6, "user": [0, 1, 2], "history": [1, 2, 3], "unwillingness": 1.0}
        return pd.concat([pd.DataFrame({**same, "loss_change": change, "hit_change": 0.0}) for change in changes])

    three = seeds([1.0, 1.0, -1.0], [1.1, 5.0, -1.1], [0.9, -3.0, -0.9])  # by t = 17, 0.4 and -17, where 4.3 is needed
    assert grouped(three).surely.tolist() == [1 / 3]
    assert grouped(three, "history").surely.tolist() == [1, 0, 0]
    assert grouped(seeds([1.0, 1.0, -1.0])).surely.isna().all()
    assert "33.3%" in users_markdown(three) and "surely: worse" in users_markdown(three)
