"""What the report says of the models, in all sections but those on interactions."""
import json
from pathlib import Path

import pandas as pd

from eval import evaluate_and_report
from src.common.variant import asked
from src.game.preprocess import preprocess
from src.report.sections import disclosed
from src.training.train import train
from tests.report.reading import Page, data_of, read, simulated_results, words


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
    preprocess(copied.replace(strategy="random", unwillingness="uniform"))
    train(asked(copied.replace(masked=True)))
    evaluate_and_report(copied)
    evaluate_and_report(copied.replace(masked=True, unwillingness="uniform"))
    text, data = words(copied), data_of(copied)
    assert "Influences\n" not in text and "A baseline decided" in text and "drawn at random: nobody" in text
    limits = text.rpartition("What these figures")[2].partition("One user")[0]
    assert not any(word in limits for word in ("validation", "Influences", "reward"))
    assert data["played"] is False and data["prices"] is None and "influence" not in data["users"][0]


def test_both_rewards_are_at_one_price(copied):
    """The plain model was evaluated at the price of an earlier mask."""
    before = json.loads((Path(copied.output_path) / "eval_ncf.json").read_text())
    preprocess(copied.replace(willingness_weight=0.2))
    train(asked(copied.replace(masked=True)))
    evaluate_and_report(copied.replace(masked=True))
    line = next(line for line in words(copied).splitlines() if line.startswith("reward |"))
    assert f"| {-before['loss'] - 0.2 * before['total_wv']:.4f} |" in line and "willingness_weight | 0.2 | 0.2 | +0 |" in \
        words(copied)


def test_many_genres_are_shown_together(finished_run):
    results = simulated_results(finished_run, 50, 40, 100)
    results.catalogue["genres"] = [f"own {k}" + "|shared" * (k % 2) for k in range(100)]
    table = disclosed(results, finished_run)[-1]
    assert len(table["rows"]) == 31 and {row[0] for row in table["rows"]} > {"shared", "(others)"}
