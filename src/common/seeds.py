"""A stage repeated over several seeds, with mean and standard deviation of its metrics."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..config import Config
from .errors import InputError
from .files import read_json, write_json
from .share import here
from .terminal import RESULT, logger
from .variant import asked

TIMES = "seconds", "samples_per_second", "ms_per_step"  # no metrics: they are of the machine


def seed_settings(config: Config, seed: int) -> Config:
    """The settings with another seed, and with results and checkpoints in folders seed_N of their own."""
    folders = {key: str(Path(getattr(config, key)) / f"seed_{seed}") for key in ("output_path", "checkpoint_path")}
    return config.replace(seed=seed, **folders)


def over_seeds(stage: Callable[[Config], None], record_file: Callable[[str], str] | None,
               differing: Callable[[dict, dict], str] | None = None) -> Callable[[Config], None]:
    """The stage as it is, or with --seeds run once for each of them in the folders seed_N of the results and checkpoints.

    With --seeds a record RECORD_seeds.json has for each metric the values, their mean and sample standard deviation.
    record_file: of the model's name: the name of the JSON record that the stage writes; None if there is none.
    differing: of two records: in what they differ beyond the seed, so that no mean may have both; "" if in nothing.
    """
    def run(config):
        if not config.seeds:
            stage(config)
            return
        name, records = here().first and record_file and record_file(asked(config).model), []
        for seed in config.seeds:
            logger.info("seed %d", seed)
            one = seed_settings(config, seed)
            stage(one.replace(seeds=[], decisions_path=config.decisions_path or config.output_path))
            if name and here().first:
                records.append(read_json(Path(one.output_path) / name, "run the same command with --overwrite"))
            if records and differing and (said := differing(records[0], records[-1])):
                raise InputError(f"--seeds: the models of the seeds {config.seeds[0]} and {seed} differ in more than that "
                                 f"({said}); train all with the same options")
        if not (summary := summarise(records) if records else {}):  # without anything held out a training has no metrics
            return
        write_json(Path(config.output_path) / name.replace(".json", "_seeds.json"), {
            "model": records[0]["model"], "dataset": config.dataset, "seeds": config.seeds, **summary})
        width = max(map(len, summary))
        logger.log(RESULT, "%s over the seeds %s, mean%s:", records[0]["model"], ", ".join(map(str, config.seeds)),
                   " and standard deviation" if len(records) > 1 else "")
        for key, values in summary.items():
            spread = "" if values["std"] is None else f" +- {values['std']:.4f}"
            logger.log(RESULT, "  %-*s  %.4f%s", width, key, values["mean"], spread)
    return run


def summarise(records: list[dict]) -> dict[str, dict]:
    """By metric (float, no time) of the records its values, mean and sample standard deviation (None for one record)."""
    summary = {}
    for key in [key for key, value in records[0].items() if isinstance(value, float) and key not in TIMES]:
        values = [record[key] for record in records]
        spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
        summary[key] = {"mean": float(np.mean(values)), "std": spread, "values": values}
    return summary
