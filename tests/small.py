"""What many tests need: options small enough for a test, and what a refusal must be."""
import contextlib
import os
import shutil

import pytest

import src.common.files
import src.common.together
from src.common.errors import InputError
from src.dataset import load_dataset

# of a network and an evaluation
SMALL = ["--layers", "6,4", "--num_factors", 3, "--num_neg", 2, "--num_eval_neg", 5, "--train_epochs", 2, "--top_k", 3]


def check_arrays(config, masked=False):
    """A Dataset, or its twin, is the same read from arrays, in one or in many blocks, and from its tables."""
    def read(name, value):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(name, value)
            found = load_dataset(config, masked)
        names = ["user_ids", "item_ids", "user", "item", "rows", "time", "validation", "test", "held_out", "place"]
        return {name: None if (value := getattr(found, name)) is None else value.tolist() for name in names}
    by_text = read("src.sources.interactions.INTERACTIONS_FILE", "none")
    for rows in (1, 7, 1 << 20):
        assert read("src.stat_utils.BLOCK", rows) == by_text
    return by_text


@contextlib.contextmanager
def refused(*named):
    """What is done within raises an InputError: one line that names these, options and files, whatever its wording."""
    with pytest.raises(InputError) as error:
        yield error
    said = str(error.value)
    assert "\n" not in said
    for name in named:
        assert str(name) in said, said


def flags(config, *more):
    """Command line with the folders and the data of a finished run, and more."""
    kept = ("data_path", "output_path", "checkpoint_path", "dataset", "num_eval_neg", "train_epochs", "device_target")
    return [str(a) for key in kept for a in (f"--{key}", getattr(config, key))] + [str(a) for a in more]


def before_each_operation(monkeypatch, folder, call):
    """Runs `call`; copies of the folders of a run, in `folder`, as they are before each operation on files in it."""
    taken = []

    def recorded(operation):
        def recording(*arguments, **options):
            taken.append(folder / "kept" / str(len(taken)))
            for name in ("data", "output", "checkpoint"):
                shutil.copytree(folder / name, taken[-1] / name)
            return operation(*arguments, **options)
        return recording
    with monkeypatch.context() as patched:
        for module, name in ((os, "replace"), (os, "unlink"), (src.common.files, "sync"), (src.common.together, "sync")):
            patched.setattr(module, name, recorded(getattr(module, name)))
        call()
    return taken
