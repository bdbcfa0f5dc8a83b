"""The plain and the masked variant of a run, and where the files of dataset, masked twin and decisions are."""
from dataclasses import dataclass
from pathlib import Path

from .. import constants as names
from ..config import Config, shipped
from ..constants import DATASET_FILE, HOLDOUT, MASK_SETTINGS, MASKED_MODEL, MASKED_PREFIX, SIMULATION
from ..options import MASK
from .errors import InputError
from .files import digest, read_json
from .stored import as_csv, named, stored

REMEDY = "run preprocess.py with --overwrite"
REMADE = "make the dataset anew with scripts/run_download_dataset.sh --overwrite"
DIGESTS = "files_sha256"  # key of dataset.json: by name the digest of each table
ARRAYS_SHA256 = "arrays_sha256"  # key of dataset.json of a mask: of the interactions.npy that its uses.npy is about
DATA, MASKED, DECISIONS, OUTPUT, CHECKPOINT = "data", "masked", "decisions", "output", "checkpoint"  # folders of a run


def dataset_folder(config: Config, masked: bool = False) -> Path:
    """Folder of the dataset that the settings name, or of its masked twin."""
    return Path(config.data_path) / (f"{MASKED_PREFIX}{config.dataset}" if masked else config.dataset)


def folders_of(config: Config) -> dict[str, Path]:
    """The folders of a run by what is in them."""
    return {DATA: dataset_folder(config), MASKED: dataset_folder(config, masked=True),
            DECISIONS: decision_files(config)[0].parent, OUTPUT: Path(config.output_path),
            CHECKPOINT: Path(config.checkpoint_path)}


def ratings_path(config: Config, masked: bool = False) -> Path:
    """Path of ratings.csv, or of ratings.parquet; raises InputError with the command that makes it if it is missing."""
    path = stored(dataset_folder(config, masked) / names.RATINGS_FILE)
    if not path.is_file():
        command = "preprocess.py first, which makes none where --veto leaves nothing to train on" if masked else \
            f"scripts/run_download_dataset.sh --dataset {config.dataset} first"
        raise InputError(f"{path}: no such file; make it with {command}, or set --data_path")
    return path


def stored_alike(config: Config, name: str) -> str:
    """The name of the table NAME.csv where it is stored as the ratings of the dataset are."""
    return named(name, ratings_path(config).suffix[1:])


def dataset_files(config: Config, masked: bool = False) -> list[Path]:
    """The files that a dataset consists of, as inputs of a stage; the catalogue of a masked one is that of its source.

    Raises InputError: there is no ratings.csv, or see check_record.
    """
    ratings = ratings_path(config, masked)
    check_record(config)
    others = stored(ratings.with_name(names.HELD_OUT_FILE)), dataset_folder(config) / names.MOVIES_FILE
    return [ratings, *(path for path in others if path.exists())]


def record_of(folder: Path, remedy: str = REMADE) -> dict:
    """What dataset.json says of the dataset in a folder, {} if there is none; `remedy` ends the line on a damaged one."""
    path = folder / DATASET_FILE
    return read_json(path, remedy) if path.exists() else {}


def check_record(config: Config) -> dict:
    """What dataset.json says of a dataset, {} if there is none; options of the data stage that were given must agree.

    Raises InputError: names the first that does not.
    """
    folder = dataset_folder(config)
    record, (defaults, _) = record_of(folder), shipped()
    for key, value in config.select("filter", "storage", *["simulation"] * (config.dataset == SIMULATION)).items():
        if value != "auto" and (value != defaults[key] or key in config.given) and key in record and record[key] != value:
            raise InputError(f"--{key} {value}: but {folder} was made with {key}={record[key]}; make it anew with "
                             f"scripts/run_download_dataset.sh --dataset {config.dataset} --{key} {value}, "
                             "or leave the option out")
    for option, key in (("archive", "sha256"), ("items", "items_sha256")):  # a file of tomorrow may name those of tomorrow
        file = getattr(config, option)
        if file and config.sources.get(option) == "line" and record and record.get(key) != digest(file):
            raise InputError(f"--{option} {file}: is not what {folder} was made from; make that anew with "
                             f"scripts/run_download_dataset.sh --dataset {config.dataset} and this option, or leave it out")
    return record


def check_tables(folder: Path) -> dict:
    """The record of a dataset folder; what has none is taken as it is. Raises InputError: a table is not what it says."""
    record = record_of(folder)
    masked = "masked_from" in record
    if masked and record.get(HOLDOUT) != 0 and names.HELD_OUT_FILE not in map(as_csv, record.get(DIGESTS, {})):
        raise InputError(f"{folder}: was written by an earlier version, with held-out interactions among those that train; "
                         f"{REMEDY}")
    for name, said in record.get(DIGESTS, {}).items():
        if not (folder / name).is_file() or digest(folder / name) != said:
            remedy = REMEDY if masked else (f"put back a copy; or remove {folder / DATASET_FILE} to take the data as they "
                                            f"are; or {REMADE}")
            raise InputError(f"{folder / name}: is missing, or is not what {DATASET_FILE} says: it was changed, cut or "
                             f"damaged since; {remedy}")
    return record


def is_masked(folder: Path) -> bool:
    """Whether preprocess.py wrote what lies in a dataset folder."""
    return "masked_from" in record_of(folder, "remove it")


@dataclass(frozen=True)
class Variant:
    """One of the two models of a run: the plain one, or the one that knows only what is disclosed.

    config: settings of the run; masked: whether it is the latter.
    """
    config: Config
    masked: bool = False

    @property
    def model(self) -> str:
        return MASKED_MODEL if self.masked else self.config.plain_model

    @property
    def checkpoint(self) -> Path:
        return Path(self.config.checkpoint_path) / f"{self.model}.ckpt"

    @property
    def command(self) -> str:
        """What trains it, for messages."""
        model = "" if self.config.model == "ncf" else f" --model {self.config.model}"
        return f"train.py --dataset {self.config.dataset}{model}{' --masked' if self.masked else ''}"

    def settings(self) -> Config:
        """The settings that it is trained and evaluated with.

        Raises InputError: an option of the mask was given that differs from what the mask was made with.
        """
        folder = dataset_folder(self.config, masked=True)
        for key, value in record_of(folder, REMEDY).get(MASK_SETTINGS, {}).items() if self.masked else ():
            if key in self.config.given and (now := self.config.select("influence", *MASK).get(key)) != value:
                raise InputError(f"--{key} {now}: but {folder} was made with {key}={value}; run preprocess.py with "
                                 f"--{key} {now} first, or leave the option out")
        return self.config


def asked(config: Config) -> Variant:
    """The Variant that --masked names."""
    return Variant(config, config.masked)


def decision_files(config: Config) -> tuple[Path, Path]:
    """Paths of disclosure.csv and preprocess.json."""
    folder = Path(config.decisions_path or config.output_path)
    return stored(folder / names.DISCLOSURE_FILE), folder / names.PREPROCESS_FILE


def check_mask(config: Config) -> None:
    """Raises InputError if the masked dataset was not made from the disclosure.csv that is there; there may be none."""
    path, folder = decision_files(config)[0], dataset_folder(config, masked=True)
    record = record_of(folder, REMEDY)
    if path.exists() and record and record.get("disclosure_sha256") != digest(path):
        raise InputError(f"{path}: is not what {folder} was made from, perhaps by another run; run preprocess.py, "
                         "then train.py --masked, or give each run a --data_path of its own")
