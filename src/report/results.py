"""What the stages have left, as far as it belongs together."""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ..common.errors import InputError
from ..common.files import digest, read_json
from ..common.stage import Stage
from ..common.variant import Variant, dataset_folder, decision_files
from ..consent.withdrawn import withdrawn_path
from ..constants import (
    DISCLOSURE_FILE,
    DISCLOSURE_PLOT,
    MASKED_MODEL,
    RATINGS_FILE,
    checkpoint_file,
    eval_file,
    train_file,
    users_file,
)
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
    files += [Path(config.checkpoint_path) / checkpoint_file(model) for model in models]
    return [path for path in files if path.is_file()]


def read_results(variant, read=None):
    """Results of the dataset of a Variant; of two evaluations that do not fit together, its own.

    `read` is what evaluate has returned: Dataset and Decisions that need not be read again.
    """
    config = variant.config
    output = Path(config.output_path)
    if read is None:
        dataset = dataset_of(variant)
        read = dataset, decisions_behind(variant, dataset)
    dataset, decisions = read
    results = Results(dataset, load_catalogue(dataset, config), {}, decisions, {}, [])
    models, left_out, trainings = results.models, results.left_out, {}
    for model in (config.plain_model, MASKED_MODEL):
        record, trainings[model] = (_read(output / name(model), config, left_out) for name in (eval_file, train_file))
        if not config.holdout:
            _add_unscored(results, Variant(config, model == MASKED_MODEL), variant.masked)
        elif record is not None and (output / users_file(model)).is_file():
            stage = Stage.read_record(output, f"eval_{model.lower()}")
            if why := _misfit(model, stage, decisions, config):
                left_out.append(f"{eval_file(model)} ({why})")
            else:
                models[model] = Evaluated(record, pd.read_csv(output / users_file(model)),
                                          stage["inputs"].get(checkpoint_file(model)))
    if results.pair and (differing := not_comparable(*(found.record for found in results.pair))):
        model = config.plain_model if variant.masked else MASKED_MODEL
        left_out.append(f"{eval_file(model)} (of other data or settings; {config.plain_model}: {differing})")
        del models[model]
    for model, training in trainings.items():
        if model in models:
            _add_training(models[model], model, training, config, left_out)
        elif training is not None:
            left_out.append(f"{train_file(model)} (its model is not among the evaluated ones)")
    for name in ("preprocess", *(f"train_{model.lower()}" for model, found in models.items() if found.training)):
        record = Stage.read_record(output, name)
        if record.get("dataset") == config.dataset:
            results.records[name] = record
    return results


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


def _read(path, config, left_out):
    """What a stage has written as JSON; None if it is not there, or of another dataset."""
    record = read_json(path, _REMEDY) if path.is_file() else None
    if record is not None and record.get("dataset") != config.dataset:
        left_out.append(f"{path.name} (of {record.get('dataset')})")
        return None
    return record


def _misfit(model, stage, decisions, config):
    """Why an evaluation, of which `stage` is the record, is not one of the data and decisions of now; "" if it is."""
    output, inputs = Path(config.output_path), stage.get("inputs", {})
    if inputs.get(RATINGS_FILE) != digest(dataset_folder(config) / RATINGS_FILE):
        return f"of another {RATINGS_FILE} than the one that is there now: run eval.py again"
    for name in (eval_file(model), users_file(model)):
        if stage.get("outputs", {}).get(name) != digest(output / name):
            return "changed since, or of an unfinished evaluation: run eval.py --overwrite"
    if model == MASKED_MODEL and decisions is not None and inputs.get(DISCLOSURE_FILE) != digest(decision_files(config)[0]):
        return "of another mask: run train.py --masked, then eval.py --masked"
    return ""


def _add_training(found, model, training, config, left_out):
    """Adds to an Evaluated its training, and whether its checkpoint recommends."""
    checkpoint = Path(config.checkpoint_path) / checkpoint_file(model)
    trained = Stage.read_record(config.output_path, f"train_{model.lower()}")
    if trained.get("outputs", {}).get(checkpoint.name) == found.checkpoint:
        found.training = training
    elif training is not None:
        left_out.append(f"{train_file(model)} (of another model than was evaluated)")
    found.recommends = checkpoint.is_file() and digest(checkpoint) == found.checkpoint
    if not found.recommends:
        left_out.append(f"recommendations of {model} ({checkpoint.name} is not what was evaluated: run eval.py again)")
