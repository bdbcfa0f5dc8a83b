"""What the report leaves out, since it belongs to other data, settings or models."""
from pathlib import Path

from eval import evaluate_and_report
from src.common.variant import asked
from src.game.preprocess import preprocess
from src.report.page import write_report
from src.report.results import read_results
from src.training.train import train
from tests.report.reading import data_of, read, words
from tests.small import refused


def test_what_belongs_to_another_mask_is_left_out(copied):
    preprocess(copied.replace(wv_budget=0.3))
    evaluate_and_report(copied)
    text = words(copied)
    assert "eval_ifrqe.json (of another mask" in text and "There is no comparison" in text and " | IFRQE" not in text
    assert "train_ifrqe.json (of another model than was evaluated)" in text and "train IFRQE" not in text
    assert "30% of the unwillingness" in text and "budget | 30% of total_wv" in text and "; IFRQE from" not in read(copied)
    assert list(data_of(copied)["users"][0]["lists"]) == ["NCF"]

    train(asked(copied.replace(masked=True)))
    evaluate_and_report(copied.replace(masked=True))
    assert "There is no comparison" not in words(copied) and "another mask" not in words(copied)


def test_what_belongs_to_another_model_or_dataset_is_left_out(copied):
    train(asked(copied.replace(train_epochs=1)))
    results = read_results(asked(copied))
    assert [name for name, found in results.models.items() if found.training] == ["IFRQE"]
    assert "train_ncf.json (of another model" in results.left_out[0]
    for name in ("train_ifrqe.json", "eval_ifrqe.json"):
        path = Path(copied.output_path) / name
        path.write_text(path.read_text().replace('"simulation"', '"elsewhere"'))
    results = read_results(asked(copied))
    assert list(results.models) == ["NCF"] and results.models["NCF"].training is None
    assert {line.split(" (")[0] for line in results.left_out} == {"train_ncf.json", "train_ifrqe.json",
                                                                       "eval_ifrqe.json", "recommendations of NCF"}


def test_lists_of_other_lengths_are_not_compared(copied):
    evaluate_and_report(copied.replace(masked=True, top_k=5))
    text = words(copied)
    assert "simulation: IFRQE\n" in text and "top_k " in text and "hr@5" in text and "hr@10" not in text


def test_a_damaged_result_is_named(copied):
    path = Path(copied.output_path) / "eval_ncf_users.csv"
    path.write_text("user_id\n1\n")
    write_report(asked(copied))
    assert "eval_ncf.json (changed since" in words(copied) and "simulation: IFRQE\n" in words(copied)
    path.with_name("eval_ncf.json").write_text("{")
    with refused("eval_ncf.json"):
        write_report(asked(copied))
