import numpy as np
import pytest

from studies.figures import fidelity_plot, scaling_plot
from tests.common.test_figures import is_png


@pytest.mark.parametrize("ceiling", [0.5, None])
def test_fidelity_plot_is_a_picture(tmp_path, ceiling):
    rng = np.random.default_rng(0)
    predicted = rng.normal(size=(8, 30))
    predicted[:, 0] = 1  # a user whose prediction never changes
    scores = {name: rng.uniform(-1, 1, 30) for name in ("blend", "block", "lissa")}
    fidelity_plot(tmp_path / "x.png", predicted, rng.normal(size=(8, 30)), scores, {"ceiling_own": ceiling}, "fidelity")
    assert is_png(tmp_path / "x.png")


def test_scaling_plot_is_a_picture(tmp_path):
    rows = [{"num_interactions": n, "seconds": n / 1e6, "extra_mb": 0} for n in (1_000_000, 5_000_000)]
    scaling_plot(tmp_path / "x.png", rows, "influences")
    assert is_png(tmp_path / "x.png")
