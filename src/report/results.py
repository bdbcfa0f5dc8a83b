"""What the stages have left, as far as it belongs together."""
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ..common.errors import InputError
from ..common.files import digest, read_json
from ..common.stage import Stage
from ..common.variant import dataset_folder, decision_files
from ..config import TRAINED, options_of
from ..constants import (
    DISCLOSURE_FILE,
    MASKED_MODEL,
    PLAIN_MODEL,
    RATINGS_FILE,
    TRADEOFF_FILE,
    checkpoint_file,
    eval_file,
    train_file,
    users_file,
)
from ..dataset import id_types, load_catalogue, load_dataset
from ..evaluation.compare import not_comparable, top_k_of
from ..game.decisions import read_decisions
from .sections import for_others

MODELS = (PLAIN_MODEL, MASKED_MODEL)
_REMEDY = "remove it, and run the stage that writes it again"


@dataclass
class Results:
    """What the stages have left that belongs to one dataset.

    evaluations: dict of model to the record of its evaluation.
    users: dict of model to the DataFrame of its evaluation by user.
    trainings: dict of model to the record of its training.
    decisions: Decisions, or None.
    tradeoff: DataFrame of the trade-off study, or None.
    study_differs: in what the study differs from the run, so that no table may have both; "" if one may.
    dataset: Dataset.
    catalogue: DataFrame, see load_catalogue.
    records: dict of stage to its record of settings.
    recommending: list of the models whose checkpoints are those that were evaluated.
    left_out: list of what is there but does not belong to it.
    """
    evaluations: dict
    users: dict
    trainings: dict
    decisions: object
    tradeoff: pd.DataFrame
    study_differs: str
    dataset: object
    catalogue: pd.DataFrame
    records: dict
    recommending: list
    left_out: list

    @property
    def top_k(self):
        """Length of the lists that the evaluations looked at."""
        return top_k_of(next(iter(self.evaluations.values())))


def read_results(variant):
    """Results of the dataset of a Variant; of two evaluations that do not fit together, its own."""
    config = variant.config
    output = Path(config.output_path)
    left_out, evaluations, users, trainings = [], {}, {}, {}

    def read(path):
        record = read_json(path, _REMEDY) if path.is_file() else None
        if record is not None and record.get("dataset") != config.dataset:
            left_out.append(f"{path.name} (of {record.get('dataset')})")
            return None
        return record

    def leave_out(model, why):
        left_out.append(f"{eval_file(model)} ({why})")
        del evaluations[model], users[model]

    dataset = load_dataset(config)
    decisions = read_decisions(config, dataset) if config.holdout > 1 else None
    for model in MODELS:
        if (record := read(output / eval_file(model))) is not None and (output / users_file(model)).is_file():
            evaluations[model], users[model] = record, _read_users(output / users_file(model), dataset)
        if (record := read(output / train_file(model))) is not None:
            trainings[model] = record
    evaluated, trained = ({model: Stage.read_record(output, f"{stage}_{model.lower()}") for model in MODELS}
                          for stage in ("eval", "train"))
    made = {model: record.get("inputs", {}) for model, record in evaluated.items()}  # digests of what was evaluated
    ratings = digest(dataset_folder(config) / RATINGS_FILE)
    for model in list(evaluations):
        if made[model].get(RATINGS_FILE) != ratings:
            leave_out(model, f"of another {RATINGS_FILE} than the one that is there now: run eval.py again")
        elif any(digest(output / name) != evaluated[model].get("outputs", {}).get(name)
                 for name in (eval_file(model), users_file(model))):
            leave_out(model, "changed since, or of an unfinished evaluation: run eval.py --overwrite")
    if MASKED_MODEL in evaluations and decisions is not None \
            and made[MASKED_MODEL].get(DISCLOSURE_FILE) != digest(decision_files(config)[0]):
        leave_out(MASKED_MODEL, "of another mask: run train.py --masked, then eval.py --masked")
    if len(evaluations) == 2 and (differing := not_comparable(*(evaluations[model] for model in MODELS))):
        leave_out(PLAIN_MODEL if variant.masked else MASKED_MODEL, f"of other data or settings; {PLAIN_MODEL}: {differing}")
    recommending = []
    for model in MODELS:
        name = checkpoint_file(model)
        if model in trainings and model not in evaluations:
            left_out.append(f"{train_file(model)} (its model is not among the evaluated ones)")
            del trainings[model]
        elif model in trainings and made[model].get(name) != trained[model].get("outputs", {}).get(name):
            left_out.append(f"{train_file(model)} (of another model than was evaluated)")
            del trainings[model]
        path = Path(config.checkpoint_path) / name
        if model in evaluations and path.is_file() and digest(path) == made[model].get(name):
            recommending.append(model)
        elif model in evaluations:
            left_out.append(f"recommendations of {model} ({path.name} is not what was evaluated: run eval.py again)")
    records = {"preprocess": Stage.read_record(output, "preprocess"),
               **{f"train_{model.lower()}": trained[model] for model in trainings},
               "tradeoff": Stage.read_record(output, "tradeoff")}
    records = {name: record for name, record in records.items() if record.get("dataset") == config.dataset}
    study_differs = ""
    tradeoff = None
    if (output / TRADEOFF_FILE).is_file():
        if _is_of(records.get("tradeoff", {}), output / TRADEOFF_FILE, config):
            # a strategy may be called NA or 007
            tradeoff = pd.read_csv(output / TRADEOFF_FILE, converters={"strategy": str})
            study_differs = _study_differs(records["tradeoff"], evaluated, evaluations)
        else:
            left_out.append(f"{TRADEOFF_FILE} (of another dataset, or of an unfinished study)")
    return Results(evaluations, users, trainings, decisions, tradeoff, study_differs, dataset,
                   load_catalogue(dataset, config), records, recommending, left_out)


def _study_differs(study, evaluated, evaluations):
    """In what the trade-off study differs from the run, so that no table may have both; "" if one may.

    Args:
        study: record of the study.
        evaluated: dict of model to the record of its evaluation as a stage.
        evaluations: dict of model to what the evaluation found.
    """
    asked, said = study["all_settings"], {}
    for model, found in evaluations.items():
        record = evaluated[model]
        wanted = {**record["settings"], **found.get("training", {})}
        for key in options_of("split", "model", *TRAINED, "unwillingness", "protocol"):
            if key != "seed" and asked.get(key) != wanted.get(key):
                said[key] = f"{key} {for_others(key, asked.get(key))} against {for_others(key, wanted.get(key))}"
        for key in ("device", "mindspore"):
            if None not in (study.get(key), record.get(key)) and study[key] != record[key]:
                said[key] = f"{key} {study.get(key)} against {record.get(key)}"
        for name, state in study.get("inputs", {}).items():
            if record.get("inputs", {}).get(name) != state:
                said[name] = f"another {name}"
    return ", ".join(said.values())


def _read_users(path, dataset):
    """The results of an evaluation by user."""
    try:
        table = pd.read_csv(path, **id_types(dataset))
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as e:
        raise InputError(f"{path}: is no CSV file ({' '.join(str(e).split())}); {_REMEDY}") from e
    if not {"rank", "loss", "pos_loss"} <= set(table):
        raise InputError(f"{path}: lacks columns; {_REMEDY}")
    return table


def _is_of(record, path, config):
    """Whether the record of a study is that of the file, and the data that it was made from are those that are there now."""
    folder = dataset_folder(config)
    same = all(digest(folder / name) == value for name, value in record.get("inputs", {}).items()
               if (folder / name).is_file())
    return same and record.get("outputs", {}).get(path.name) == digest(path) \
        and record["all_settings"]["holdout"] == config.holdout
