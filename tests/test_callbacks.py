import pytest

from src.callbacks import AnchorEpochs, BestEpoch


def test_best_epoch_keeps_the_first_of_equals():
    for lower, best in ((False, 2), (True, 1)):
        callback = BestEpoch("x", lower)
        for epoch, x in enumerate((1, 5, 5, 1), 1):
            callback.on_epoch_end({"epoch": epoch, "x": x}, f"parameters of epoch {epoch}")
        assert callback.record["epoch"] == best and callback.values == f"parameters of epoch {best}"


@pytest.mark.parametrize("losses, number, expected", [
    ([5, 4, 3, 2, 1, 2, 3, 4, 5], 4, [1, 2, 4, 5]), ([8, 7, 6, 5, 4, 3, 2, 1, 2], 4, [2, 4, 6, 8]), ([1, 2, 3], 4, [1]),
    ([3, 2, 1, 4, 4, 4, 4, 4, 4, 4, 4, 4], 3, [1, 2, 3]), (range(40, 0, -1), 4, [8, 16, 32, 40]), ([3, 2, 1, 2], 1, [3])])
def test_anchor_epochs_are_spread_up_to_the_anchor(losses, number, expected):
    anchor = AnchorEpochs("pos_loss", True, number)
    for epoch, loss in enumerate(losses, 1):
        anchor.on_epoch_end({"epoch": epoch, "pos_loss": loss}, {"parameters": epoch})
        assert len(anchor.gathered) < 2 * number
    assert list(anchor.kept) == expected == [values["parameters"] for values in anchor.kept.values()]
    assert anchor.record["epoch"] == expected[-1]
