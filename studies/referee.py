"""Are the base models as good as their namesakes elsewhere? RecBole beside them, started by scripts/run_referee.sh.

Both train on the same histories, without the last two interactions of each user, and rank the test item among all items
that the user has not touched. RecBole runs in the Python that RECBOLE_PYTHON names, see referee_recbole.py; it is held to
rank the very items that ours rank. What is trained is kept. See docs/results.md.
"""
import os
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from src.common.errors import InputError
from src.common.stage import main
from src.common.terminal import counted
from src.common.variant import dataset_files
from src.dataset import load_dataset
from src.evaluation.evaluate import ranks_among_untouched
from src.network import score_all
from src.options import TRAINED

from .carryover_judges import base_model
from .grid import Retraining, Study, averages, grid, names_of, needs_validation, seeds_of
from .masks import quality

OWN = {"referee_models": ("str", "ncf,mf,lightgcn", "base models, separated by commas")}
NAMESAKES = {"ncf": "NeuMF", "mf": "BPR", "lightgcn": "LightGCN"}  # of RecBole; mf learns from single items, BPR from pairs
PROGRAM = Path(__file__).with_name("referee_recbole.py").resolve()


def referee(config):
    """Writes referee.csv and referee.md; InputError: no RecBole, one that ranks other items, a wrong model or dataset."""
    needs_validation(config)
    models, seeds = names_of(config, "referee_models", "base model", NAMESAKES, files=False), seeds_of(config)
    version = run("-c", "import recbole, torch; print(recbole.__version__, torch.__version__)").strip()
    study, dataset = Study("referee", __name__, config), load_dataset(config)

    def measure(library, model, seed):
        start, ranks = time.perf_counter(), (ours if model in NAMESAKES else of_recbole)(dataset, study, model, seed)
        return {"ranks": ranks, "seconds": round(time.perf_counter() - start, 1)}

    def depends(model, **_):
        own = base_model(model, config).select("model", *TRAINED) if model in NAMESAKES else version
        return study.depends(("split",), [*dataset_files(config), PROGRAM], rows=dataset.rows_sha256(), own=own)
    cells = [{"library": library, "model": name, "seed": seed} for model in models
             for library, name in (("RecBole", NAMESAKES[model]), ("ours", model)) for seed in seeds]
    found = grid(study, cells, measure, depends)
    measured = pd.DataFrame([quality(rank, config.top_k, "full_") for rank in found.pop("ranks")])
    study.publish(found.join(measured), f"""# {config.dataset}: base models beside those of RecBole {version.split()[0]}

The test item among all items that a user has not touched; mean over {counted(len(seeds), 'seed')}.

{averages(found.join(measured), ["library", "model"], {name: name for name in measured if not name.endswith("_se")})}""")


def run(*arguments, **options):
    """What the Python of RecBole prints; InputError: it fails."""
    python = os.environ.get("RECBOLE_PYTHON", "python")
    try:
        return subprocess.run([python, *map(str, arguments)], check=True, capture_output=True, text=True, **options).stdout
    except (OSError, subprocess.CalledProcessError) as e:
        said = (getattr(e, "stderr", "") or str(e)).strip().splitlines()[-1]
        raise InputError(f"RECBOLE_PYTHON={python}: RecBole fails ({said}); name the Python of an environment that is made "
                         "as scripts/run_referee.sh says") from None


def of_recbole(dataset, study, model, seed):
    """(scored users,) ranks of the test items by a model of RecBole, trained on these very interactions."""
    users = np.arange(dataset.num_users)
    table = pd.DataFrame({"user_id:token": np.concatenate([dataset.user, users, users]),
                          "item_id:token": np.concatenate([dataset.item, dataset.validation, dataset.test])})
    table["timestamp:float"] = np.arange(len(table))  # of each user's in their order; validation and test items are last
    with tempfile.TemporaryDirectory() as folder:
        os.mkdir(f"{folder}/data")
        table.to_csv(f"{folder}/data/data.inter", sep="\t", index=False)
        run(PROGRAM, folder, "data", model, seed, "ranks.npy", cwd=folder)
        ranks, item, count = np.load(f"{folder}/ranks.npy")
    if not np.array_equal(item, dataset.test) or (count != dataset.num_items - dataset.history.length - 1).any():
        raise InputError(f"--dataset {dataset.name}: RecBole ranks other items; give one in which nothing is vetoed or "
                         "withdrawn, and no item untouched")
    return ranks


def ours(dataset, study, model, seed):
    """(scored users,) ranks of the test items by our own model: with the training options, or the recipe of its name."""
    retraining = Retraining(dataset, base_model(model, study.config), study.device)
    retraining(dataset, seed)
    scored = score_all(retraining.shown, dataset.scored, dataset.num_items, study.config.eval_batch_size)
    return ranks_among_untouched(dataset, dataset.test, scored)


if __name__ == "__main__":
    main(referee, "run_referee", __doc__, own=OWN)
