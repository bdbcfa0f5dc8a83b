"""What the report says of the models, in all sections but those on interactions."""
import json
from pathlib import Path

import pandas as pd

from eval import evaluate_and_report
from src.common.variant import asked
from src.game.preprocess import preprocess
from src.report.page import write_report
from src.report.results import read_results
from src.report.sections import limits
from src.training.train import train
from tests.report.reading import Page, data_of, read, words


def test_the_intervals_are_paired_over_users(finished_run):
    output = Path(finished_run.output_path)
    plain, masked = (pd.read_csv(output / f"eval_{name}_users.csv") for name in ("ncf", "ifrqe"))
    change = (masked["rank"] < 10).astype(float) - (plain["rank"] < 10)
    half = 1.96 * change.std() / 60 ** 0.5
    line = next(line for line in words(finished_run).splitlines() if line.startswith("hr@10"))
    assert f"95% interval {change.mean() - half:+.3f} to {change.mean() + half:+.3f}" in words(finished_run)
    assert f"{change.mean():+.4f}" in line and f"{change.mean() - half:+.4f} to {change.mean() + half:+.4f}" in line


def test_the_plain_model_alone_has_a_report(copied):
    for name in ("disclosure.csv", "preprocess.json", "eval_ifrqe.json", "train_ifrqe.json"):
        (Path(copied.output_path) / name).unlink()
    evaluate_and_report(copied.replace(overwrite=True))
    text = words(copied)
    assert "simulation: NCF\n" in text and "There is no comparison" in text and "Who gains" not in text
    assert not Page(read(copied)).data


def test_a_baseline_has_a_report_without_influences(copied):
    preprocess(copied.replace(strategy="threshold"))
    train(asked(copied.replace(masked=True)))
    evaluate_and_report(copied)
    evaluate_and_report(copied.replace(masked=True))
    text, data = words(copied), data_of(copied)
    assert "Influences\n" not in text and "Kinds of interaction" not in text and "A baseline decided" in text
    assert data["played"] is False and data["prices"] is None and "influence" not in data["users"][0]


def test_the_trade_off_study_of_the_same_dataset_is_shown(copied):
    rows = [{"strategy": s, "budget": b, "seed": k, "hr@10": 0.5 + b / 10 + k / 100, "ndcg@10": 0.3, "loss": 0.13,
             "pos_loss": 1.2, "wv": 9.0 * b, "wv_share": b, "disclosed_share": b, "willingness_weight": 0.01, "reward": -0.3}
            for s in ("none", "threshold", "ifrqe", "mine") for b in (0.3, 0.6) for k in (1, 2)]
    output = Path(copied.output_path)
    pd.DataFrame(rows).to_csv(output / "tradeoff.csv", index=False)
    write_report(asked(copied))
    assert "tradeoff.csv (of another dataset, or of an unfinished study)" in words(copied)
    from src.common.stage import Stage
    inputs = [Path(copied.data_path) / "simulation" / name for name in ("ratings.csv", "unwillingness.csv")]
    Stage("tradeoff", "src.report.page", copied, ("tradeoff",), inputs, [output / "tradeoff.csv"]).finish()
    write_report(asked(copied.replace(overwrite=True)))
    text = words(copied)
    assert "HR@10 of every strategy" not in read(copied)  # there is no picture yet
    assert "The trade-off\n" in text and "threshold | 60% | 0.575 | 0.300 | 0.1300 | -0.3000\n" in text
    (output / "tradeoff.png").write_bytes(b"drawn")
    write_report(asked(copied))
    picture = next(found for tag, found in Page(read(copied)).tags if "HR@10 of every strategy" in found.get("alt", ""))
    assert picture["src"] == "data:image/png;base64,ZHJhd24=" and "; mine 0.545 at 30% to 0.575 at 60%" in picture["alt"]
    inputs[1].write_text(inputs[1].read_text().replace("0.5", "0.6"))  # a dataset of the same name
    assert read_results(asked(copied)).study is None


def test_an_audit_of_the_same_data_is_shown(copied):
    from src.common.stage import Stage
    output = Path(copied.output_path)
    found = {"auc": 0.8125, "interval": [0.75, 0.875]}
    guessed = {"users": 60, **{name: {**found, "listed": 0.5} for name in ("own", "full", "popularity")},
               **{f"own_less_{name}": {"difference": 0.0, "interval": [-0.1, 0.1]} for name in ("full", "popularity")}}
    nothing = {"skipped": "it withholds nothing"}
    rows = {name: {"wv_share": 0.6, "disclosed_share": 0.7, "withheld": 9, "users_without_disclosed": 0,
                   "reinference": guessed, "membership": {"pairs": 9, "disclosed_untouched": found},
                   "taste": nothing} for name in ("random", "mine")}
    record = {"dataset": "simulation", "seed": 1, "wv_budget": 0.6, "negatives": 30, "top_k": 10, "strategies": rows,
              "skipped": {"taste": "no genres"}, "settings": {"recipe": "paper", "batch_size": 256, "train_epochs": 3}}
    (output / "audit.json").write_text(json.dumps(record))
    write_report(asked(copied))
    text = words(copied)
    assert "audit.json (of other data, or of an unfinished audit" in text and "still tell" not in text
    inputs = [Path(copied.data_path) / "simulation" / name for name in ("ratings.csv", "unwillingness.csv")]
    Stage("audit", "src.report.page", copied, ("leakage",), inputs, [output / "audit.json"]).finish()
    write_report(asked(copied.replace(overwrite=True)))
    text = words(copied)
    assert "What the models still tell\n" in text and "mine | 0.812 (0.750 to 0.875) |" in text
    assert "stays guessable: AUC 0.81 by" in text and "Skipped: withheld genres from disclosed ones: no genres." in text
    inputs[1].write_text(inputs[1].read_text().replace("0.5", "0.6"))  # a dataset of the same name
    assert read_results(asked(copied)).audit is None


def test_both_rewards_are_at_one_price(copied):
    """The plain model was evaluated at the price of an earlier mask."""
    before = json.loads((Path(copied.output_path) / "eval_ncf.json").read_text())
    preprocess(copied.replace(willingness_weight=0.2))
    train(asked(copied.replace(masked=True)))
    evaluate_and_report(copied.replace(masked=True))
    line = next(line for line in words(copied).splitlines() if line.startswith("reward |"))
    assert f"| {-before['loss'] - 0.2 * before['total_wv']:.4f} |" in line and "willingness_weight | 0.2 | 0.2 | +0 |" in \
        words(copied)


def test_a_baseline_is_not_said_to_have_looked_at_anything(copied):
    config = copied.replace(strategy="random", unwillingness="uniform", masked=True)
    preprocess(config)
    text = " ".join(str(block) for block in limits(read_results(asked(config)), config))
    assert not any(word in text for word in ("validation", "Influences", "reward")) and "drawn at random: nobody" in text
