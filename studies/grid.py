"""What studies share: a study is its cells, what is measured of each, and one table of that.

A new study is a module beside this one and a script; `common.stage.main` starts it like any stage, with its locks, its log
and its errors. Options of its own begin with its name.
"""
import contextlib
import json
import logging
import re
import zipfile
import zlib
from collections import deque
from pathlib import Path

import numpy as np
import pandas as pd

from src.candidates import counting, evaluation_candidates
from src.common.errors import InputError
from src.common.figures import drawn
from src.common.files import atomic_write, write_json, write_text
from src.common.plugins import file_label, identity, is_file, label
from src.common.stage import Stage, is_the_same
from src.common.terminal import RESULT, progress
from src.common.variant import dataset_files
from src.constants import STUDY_SEEDS
from src.device_adapter import set_device
from src.network import build, score
from src.training.trainer import Trainer, train_on

logger = logging.getLogger("ifrqe")

_KEY = "key"  # of what `kept` keeps
_DAMAGED = ValueError, KeyError, EOFError, OSError, zipfile.BadZipFile, zlib.error  # what reading such a file may raise


class Study:
    """One run of a study: its settings, and where it keeps and writes what it finds.

    Args:
        name: of its files under output_path, and of the folder there that keeps its cells.
        module: __name__ of its module: the cells depend on its code, and on that of all it can import.
        config: effective settings.
    """

    def __init__(self, name, module, config):
        self.name, self.module, self.config, self.device = name, module, config, set_device(config)
        self.output = Path(config.output_path)
        self.folder = self.output / name

    def depends(self, groups, inputs, config=None, **more):
        """All that cells depend on which go by the options in `groups`, the files `inputs` and `more`; see Stage."""
        return Stage(self.name, self.module, config or self.config, groups, inputs, [], self.device, more).depends

    def publish(self, found, text, draw=None, *arguments):
        """Writes NAME.csv (a DataFrame) or NAME.json (a dict), `text` as NAME.md and a picture; logs text and names."""
        table, page, plot = (self.output / f"{self.name}.{kind}"
                             for kind in ("json" if isinstance(found, dict) else "csv", "md", "png"))
        if isinstance(found, dict):
            write_json(table, found)
        else:
            with atomic_write(table) as temporary:
                found.to_csv(temporary, index=False, float_format="%.8g")
        write_text(page, f"{text}\n")
        Stage(self.name, self.module, self.config, (), dataset_files(self.config), [table, page], self.device).finish()
        if draw:
            drawn(draw, plot, *arguments)
        logger.log(RESULT, "%s", text)
        logger.info("written to %s", ", ".join(map(str, [table, page, *([plot] if draw else [])])))


def grid(study, cells, measure, depends, folder=""):
    """The table of a study: a row for each cell, measured now, or found where an earlier run has kept it.

    Args:
        cells: list of dicts of names and numbers, after which their files are named.
        measure: of a cell, as keywords, the dict of arrays and numbers that is measured.
        depends: all that these depend on beside the cell, a dict as JSON can hold it, or a function of the cell to one.
        folder: below that of the study.

    Returns:
        DataFrame with the columns of the cells and of what was measured: numbers, and arrays as they are.
    """
    rows = []
    with progress(len(cells), study.name, "cell") as bar:
        for cell in cells:
            key = {**(depends(**cell) if callable(depends) else depends),
                   **{name: identity(value) if isinstance(value, str) else value for name, value in cell.items()}}
            path = study.folder / folder / f"{'_'.join(file_label(str(value)) for value in cell.values())}.npz"
            found = kept(path, key, lambda cell=cell: measure(**cell), study.config.overwrite)
            rows.append({**cell, **{name: value if np.ndim(value) else np.asarray(value).item()
                                    for name, value in found.items()}})
            bar.update()
    return pd.DataFrame(rows)


def kept(path, key, make, overwrite=False):
    """The arrays by name that `make` returns, or once returned under the same key, a dict as JSON has it; see grid."""
    key = json.loads(json.dumps(key))
    if not overwrite and path.is_file():
        with contextlib.suppress(*_DAMAGED), np.load(path) as file:
            found = {name: file[name] for name in file}
            if is_the_same(path, json.loads(str(found.pop(_KEY))), key):
                return found
    found = make()
    with atomic_write(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **{_KEY: json.dumps(key)}, **found)
    return found


def averages(table, by, columns, digits=4):
    """A Markdown table with a row for each group of rows, in their order: mean and standard deviation over its rows.

    Args:
        by: names of columns whose values make the groups.
        columns: by name of a column its title; names that end in share are shown in per cent.
    """
    rows = [[*keys, *(f"{100 * runs[name].mean():.0f}%" if name.endswith("share") else mean_and_std(runs[name], digits)
                      for name in columns)] for keys, runs in table.groupby(by, sort=False)]
    return markdown_table([*by, *columns.values()], rows)


def mean_and_std(values, digits=4):
    """"mean ± sample standard deviation" of the numbers that are known; a single one is shown alone."""
    known = pd.Series(values, dtype=float).dropna()
    if known.empty:
        return ""
    mean = f"{known.mean():.{digits}f}"
    return mean if len(known) == 1 else f"{mean} ± {known.std():.{digits}f}"


def markdown_text(text):
    """Text that Markdown shows as it stands, on one line: no table, emphasis, code, formula, link or HTML comes of it."""
    text = re.sub(r"[\\|*`~$\[]|(?<!\w)_|_(?!\w)", r"\\\g<0>", " ".join(str(text).split()))
    return text.replace("&", "&amp;").replace("<", "&lt;")


def markdown_table(header, rows):
    """A Markdown table, whose cells are shown as they are written."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(map(markdown_text, row)) + " |" for row in rows]
    return "\n".join(lines)


def seeds_of(config, number=STUDY_SEEDS):
    """The seeds that --seeds names, or so many from --seed on."""
    return config.seeds or [config.seed + k for k in range(number)]


def names_of(config, option, kind, known, files=True):
    """The names that an option lists.

    Raises:
        InputError: one is neither `known` nor, with `files`, a file of one's own; or two would stand under one label.
    """
    text = getattr(config, option)
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in known and not (files and is_file(name)):
            raise InputError(f"--{option} {text}: there is no {kind} {name!r}; name some of "
                             f"{','.join([*known, 'FILE.py'] if files else known)}")
    labels = [label(name) for name in names]
    for name, own in zip(names, labels):
        if labels.count(own) > 1 or is_file(name) and own in known:
            raise InputError(f"--{option} {text}: {own!r} would stand for two of them; rename the file, or name each once")
    return names


def needs_validation(config):
    """Raises InputError where no validation item is left for the influences."""
    if config.holdout < 2:
        raise InputError(f"--holdout {config.holdout}: leaves no validation item for the influences; use 2 here")


class Retraining:
    """Trains the base model on parts of a whole Dataset, all epochs; the seed in the settings draws the candidates."""

    def __init__(self, dataset, config, device):
        self.dataset, self.config, self.device = dataset, config, device
        self.validation, self.test = (evaluation_candidates(dataset, name, config) for name in ("validation", "test"))
        self.counts = counting(self.test)  # see metrics; a file of negatives may hold the test items themselves
        self.shown = build(dataset, config)  # scores all models, so that its graph is compiled once

    def __call__(self, part, seed):
        """Trains on `part` (Dataset); returns a function of (scored users, n) items to their logits, good until the next."""
        config = self.config.replace(seed=seed)
        last, = deque(train_on(Trainer(build(self.dataset, config), part, config, self.device)), maxlen=1)
        return self.of(last.values)

    def of(self, values):
        """Such a function of the parameters `values`."""
        self.shown.set_values(values)
        return lambda candidates: score(self.shown, candidates, self.config.eval_batch_size, self.dataset.scored)
