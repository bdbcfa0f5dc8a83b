import logging

import pandas as pd
import pytest

from src.callbacks import AnchorEpochs, BestEpoch, EpochReport, HistoryFile


def test_best_epoch_keeps_the_first_of_equals():
    for lower, best in ((False, 2), (True, 1)):
        callback, history = BestEpoch("x", lower), []
        for epoch, x in enumerate((1, 5, 5, 1), 1):
            history.append({"epoch": epoch, "x": x})
            callback.on_epoch_end(history, f"parameters of epoch {epoch}")
        assert callback.record["epoch"] == best and callback.values == f"parameters of epoch {best}"


def test_history_file_has_a_row_for_each_epoch(tmp_path):
    callback, history = HistoryFile(tmp_path / "history.csv"), []
    for epoch in (1, 2):
        history.append({"epoch": epoch, "loss": 1 / epoch, "seconds": 3.0})
        callback.on_epoch_end(history, None)
        assert pd.read_csv(tmp_path / "history.csv").to_dict("records") == history


def test_report_tells_the_time_left(monkeypatch, caplog):
    clock = iter([0, 10, 20])
    monkeypatch.setattr("src.callbacks.time.perf_counter", lambda: next(clock))
    callback = EpochReport(7, done=2)
    with caplog.at_level(logging.INFO, logger="ifrqe"):
        callback.on_epoch_end([{"epoch": 3, "loss": 0.5, "seconds": 1.0}], None)
        callback.on_epoch_end([{"epoch": 4, "loss": 0.25, "seconds": 1.0}], None)
    assert "epoch   3/7  loss 0.5000" in caplog.messages[0] and caplog.messages[0].endswith("ETA 00:40")
    assert caplog.messages[1].endswith("ETA 00:30") and "seconds" not in caplog.text


@pytest.mark.parametrize("losses, number, expected", [
    ([5, 4, 3, 2, 1, 2, 3, 4, 5], 4, [1, 2, 4, 5]), ([8, 7, 6, 5, 4, 3, 2, 1, 2], 4, [2, 4, 6, 8]), ([1, 2, 3], 4, [1]),
    ([3, 2, 1, 4, 4, 4, 4, 4, 4, 4, 4, 4], 3, [1, 2, 3]), (range(40, 0, -1), 4, [8, 16, 32, 40]), ([3, 2, 1, 2], 1, [3])])
def test_anchor_epochs_are_spread_up_to_the_anchor(losses, number, expected):
    anchor = AnchorEpochs("pos_loss", True, number)
    history = []
    for k, loss in enumerate(losses):
        history.append({"epoch": k + 1, "pos_loss": loss})
        anchor.on_epoch_end(history, {"parameters": k + 1})
        assert len(anchor.gathered) < 2 * number
    assert list(anchor.kept) == expected == [values["parameters"] for values in anchor.kept.values()]
    assert anchor.record["epoch"] == expected[-1]
