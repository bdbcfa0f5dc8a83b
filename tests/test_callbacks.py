import logging

import pandas as pd

from src.callbacks import BestEpoch, EpochReport, HistoryFile


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
