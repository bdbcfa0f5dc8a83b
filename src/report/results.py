"""What the stages have left, as far as it belongs together."""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ..common.errors import InputError
from ..common.files import digest, read_json
from ..common.stage import Stage
from ..common.stored import stored
from ..common.variant import Variant, dataset_folder, decision_files
from ..consent.withdrawn import withdrawn_path
from ..constants import DISCLOSURE_FILE, DISCLOSURE_PLOT, MASKED_MODEL, RATINGS_FILE, eval_file, train_file, users_file
from ..dataset import Dataset
from ..evaluation.compare import not_comparable, top_k_of
from ..game.decisions import Decisions, dataset_of, decisions_behind
from ..sources.catalogue import load_catalogue
from ..training.checkpoint import load_checkpoint

_REMEDY = "remove it, and run the stage that writes it again"


@dataclass
class Evaluated:
    """A model and what its stages have found."""
    record: dict  # of its evaluation; empty where nothing is held out
    users: pd.DataFrame | None  # the results of its evaluation by user
    checkpoint: str | None = None  # digest of the one that was evaluated
    training: dict | None = None  # record of its training, if it is one of this model
    recommends: bool = False  # whether its checkpoint is the one that was evaluated


@dataclass
class Results:
    """What the stages have left that belongs to one dataset."""
    dataset: Dataset
    catalogue: pd.DataFrame  # see load_catalogue
    models: dict[str, Evaluated]  # by name, the plain one first
    decisions: Decisions | None
    records: dict  # by stage its record of settings
    left_out: list  # what is there but does not belong to the rest

    @property
    def top_k(self):
        """Length of the lists that the evaluations looked at."""
        return top_k_of(next(iter(self.models.values())).record)

    @property
    def pair(self):
        """The plain and the masked Evaluated; None if one is missing, or nothing is held out."""
        scored = tuple(found for found in self.models.values() if found.record)
        return scored if len(scored) == 2 else None


def files_of_run(config):
    """What of a run the report is made of beside the data, as far as it is there."""
    output, models = Path(config.output_path), (config.plain_model, MASKED_MODEL)
    files = [output / name(model) for name in (eval_file, users_file, train_file) for model in models]
    files += [(output / train_file(model)).with_suffix(".png") for model in models]
    files += [*decision_files(config), output / DISCLOSURE_PLOT, withdrawn_path(config)]
    files += [Variant(config, masked).checkpoint for masked in (False, True)]
    return [path for path in files if path.is_file()]


def read_results(variant, read=None):
    """Results of the dataset of a Variant; of two evaluations that do not fit together, its own.

    `read` is what evaluate has returned: Dataset and Decisions that need not be read again.
    """
    config = variant.config
    if read is None:
        dataset = dataset_of(variant)
        read = dataset, decisions_behind(variant, dataset)
    results = Results(read[0], load_catalogue(read[0], config), {}, read[1], {}, [])
    models, left_out = results.models, results.left_out
    both = [Variant(config, masked) for masked in (False, True)]
    for one in both:
        if config.holdout:
            _add_evaluated(results, one)
        else:
            _add_unscored(results, one, variant.masked)
    if results.pair and (differing := not_comparable(*(found.record for found in results.pair))):
        model = config.plain_model if variant.masked else MASKED_MODEL
        left_out.append(f"{eval_file(model)} (of other data or settings; {config.plain_model}: {differing})")
        del models[model]
    if (record := Stage.read_record(config.output_path, "preprocess")).get("dataset") == config.dataset:
        results.records["preprocess"] = record
    for one in both:
        _add_training(results, one)
    return results


def _add_evaluated(results, variant):
    config, model, output = variant.config, variant.model, Path(variant.config.output_path)
    paths = output / eval_file(model), output / users_file(model)
    if not all(path.is_file() for path in paths):
        return
    record, stage = read_json(paths[0], _REMEDY), Stage.read_record(output, f"eval_{model.lower()}")
    inputs, why = stage.get("inputs", {}), ""
    if inputs.get(RATINGS_FILE) != digest(stored(dataset_folder(config) / RATINGS_FILE)):
        why = f"of another {RATINGS_FILE} than the one that is there now: run eval.py again"
    elif any(stage.get("outputs", {}).get(path.name) != digest(path) for path in paths):
        why = "changed since, or of an unfinished evaluation: run eval.py --overwrite"
    elif variant.masked and results.decisions and inputs.get(DISCLOSURE_FILE) != digest(decision_files(config)[0]):
        why = "of another mask: run train.py --masked, then eval.py --masked"
    if why:
        results.left_out.append(f"{paths[0].name} ({why})")
    else:
        results.models[model] = Evaluated(record, pd.read_csv(paths[1]), inputs.get(variant.checkpoint.name))


def _add_unscored(results, variant, masked):
    """Adds a model where nothing is held out; says which one does not fit, if it is not the one asked for."""
    try:
        load_checkpoint(variant.checkpoint, results.dataset, variant)
        results.models[variant.model] = Evaluated({}, None, digest(variant.checkpoint))
    except InputError:
        if variant.masked == masked:
            raise
        if variant.checkpoint.is_file():
            results.left_out.append(f"{variant.checkpoint.name} (of other data or settings: train it anew)")


def _add_training(results, variant):
    model, checkpoint, output = variant.model, variant.checkpoint, variant.config.output_path
    found, left_out, path = results.models.get(model), results.left_out, Path(output) / train_file(model)
    stage = Stage.read_record(output, f"train_{model.lower()}")
    if found and path.is_file() and stage.get("outputs", {}).get(checkpoint.name) == found.checkpoint:
        found.training, results.records[f"train_{model.lower()}"] = read_json(path, _REMEDY), stage
    elif path.is_file():
        left_out.append(f"{path.name} (of another model than was evaluated)")
    if found:
        found.recommends = checkpoint.is_file() and digest(checkpoint) == found.checkpoint
        if not found.recommends:
            left_out.append(f"recommendations of {model} ({checkpoint.name} is not what was evaluated: run eval.py again)")
