import json

import pytest

from src.common.files import write_json
from src.common.seeds import over_seeds, summarise


def test_each_seed_has_its_folders_and_the_metrics_are_summarised(settings, tmp_path):
    seen = []

    def stage(config):
        seen.append(config)
        write_json(f"{config.output_path}/{config.masked}.json",
                   {"model": "M", "epoch": 3, "hr@10": 0.5 + 0.1 * config.seed, "reward": None, "seconds": 2.5,
                    "ms_per_step": 0.1, "samples_per_second": 9.5})

    over_seeds(stage, lambda model: f"{model == 'IFRQE'}.json")(settings("--seeds", "1,3", "--masked"))
    assert [(c.seed, c.seeds) for c in seen] == [(1, []), (3, [])]
    assert {c.output_path for c in seen} == {str(tmp_path / "output" / f"seed_{k}") for k in (1, 3)}
    assert {c.checkpoint_path for c in seen} == {str(tmp_path / "checkpoint" / f"seed_{k}") for k in (1, 3)}
    assert {c.decisions_path for c in seen} == {str(tmp_path / "output")}
    summary = json.loads((tmp_path / "output" / "True_seeds.json").read_text())
    assert set(summary) == {"model", "dataset", "seeds", "hr@10"} and summary["seeds"] == [1, 3]
    assert summary["hr@10"]["mean"] == pytest.approx(0.7)
    assert summary["hr@10"]["std"] == pytest.approx(0.2 / 2 ** 0.5)


def test_one_seed_has_no_deviation():
    assert summarise([{"loss": 2.0}])["loss"] == {"mean": 2.0, "std": None, "values": [2.0]}
