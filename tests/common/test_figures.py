import numpy as np
import pytest

from src.common.figures import disclosure_plot, learning_curve
from src.game.decisions import Decisions


def is_png(path):
    return path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize("scale", [1.0, 0.0])
def test_plots_are_pictures(tmp_path, scale):
    history = [{"epoch": k, "loss": 1 / k, "pos_loss": 1 + 0.1 * k, "ndcg@10": 0.1 * k} for k in range(1, 6)]
    learning_curve(tmp_path / "curve.png", history, "ndcg@10", "NCF", 5, 1)
    rng = np.random.default_rng(0)
    influence, unwillingness = scale * rng.normal(size=500), rng.random(500)
    decisions = Decisions(influence > 0.3 * unwillingness, unwillingness, 0.3, influence, influence)
    disclosure_plot(tmp_path / "x.png", decisions, "mask")
    assert is_png(tmp_path / "x.png") and is_png(tmp_path / "curve.png")
