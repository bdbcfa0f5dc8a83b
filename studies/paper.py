"""The paper's own table, started by scripts/run_paper.sh: base models and strategies by its protocol and options.

Each seed draws the unwillingness, the candidates and the initial weights anew; the data stay the same. Rewards are
-loss - lambda * wv at the paper's price of 1. What is decided and trained is kept, so that a stopped study goes on.
See docs/results.md.
"""
from pathlib import Path

import pandas as pd

from src import metrics
from src.common.errors import InputError
from src.common.plugins import file_label, label
from src.common.seeds import seed_settings
from src.common.stage import main
from src.common.variant import Variant
from src.constants import MODELS
from src.game.strategies import ASK_FIRST, IFRQE, IFRQE_PP, NONE
from src.options import KINDS
from src.training.checkpoint import load_checkpoint

from .grid import Study, averages, names_of, needs_validation, seeds_of
from .masks import LOSS, RANK, Masks

OWN = {"paper_models": ("str", "mf,ncf,lightgcn", "base models, separated by commas")}
SEEDS = 10  # draws of the unwillingness: M of the paper
WHOLE, PRICE, BUDGET = "all", "price", "budget"  # points: everything; at the price; within wv_budget

# The paper's options where ours have a counterpart: appendix, Table 3, column Simulation; layers, num_neg and scale
# as in the configuration files of the authors' repository. An option that is given goes before all of them.
PROTOCOL = {"top_k": 5, "num_eval_neg": 99, "unwillingness": "uniform", "willingness_weight": 1.0,
            "wv_budget": 0.85}  # about the share at which the paper's IFRQE++ ends on its simulation
TRAINING = {"learning_rate": 0.01, "batch_size": 2048, "min_steps": 0, "num_factors": 64, "layers": [128, 128, 64],
            "train_epochs": 50, "num_neg": 1}
METHOD = {"prior": 0.9, "rounds": 1000, "anchors": 2, "anchor_placing": "binomial", "anchor_use": "nearest",
          "anchor_warm_epochs": 0, "lissa_depth": 30, "lissa_scale": 25.0, "influence_lags": 0,
          "shrinkage": 0.0}  # of its own strategies

# of 0-based ranks and k, with one relevant item: a hit has P = 1 / k and R = 1
MEASURES = {"f1": lambda rank, k: metrics.hit_ratio_of_ranks(rank, k) * 2 / (k + 1), "ndcg": metrics.ndcg_of_ranks}


def with_options(config, options):
    """The settings with those of the options that exist and were not given."""
    return config.replace(**{key: value for key, value in options.items() if key in KINDS and key not in config.given})


def solver_of(config, model):
    """The solver of the paper's strategies: its recursion, where the model has it."""
    if "solver" in config.given and (config.solver != "lissa" or model == "ncf"):
        return config.solver
    return "lissa" if model == "ncf" else "block"


def masks_of(study, config):
    """The Masks of one base model and seed: those of the paper's strategies and its baselines, and those of ours.

    Influences come from the epoch that ranks the validation items best, as the paper chooses its model by validation. Our
    own anchor, the epoch of the lowest cross-entropy, would be an early one here: with one negative for each positive the
    cross-entropy of the held-out items rises almost from the start.
    """
    method = with_options(config, METHOD).replace(solver=solver_of(config, config.model))
    theirs, ours = (Masks(study, settings, needed, file_label(config.model))
                    for settings, needed in ((method, True), (config, False)))
    net, info = load_checkpoint(Variant(method).checkpoint, theirs.dataset, Variant(method))
    theirs.strategies.model = {info["epoch"]: net.values()}, info
    return theirs, ours


def runs_of(study, config):
    """What is disclosed and trained for one base model and seed, see Masks: at each point all strategies, in their order."""
    theirs, ours = masks_of(study, config)
    found = [theirs.decided([(NONE, 1.0)]).assign(point=WHOLE)]
    for point, budget, price in ((PRICE, 1.0, config.willingness_weight), (BUDGET, config.wv_budget, None)):
        played = theirs.decided([(name, budget, price) for name in (IFRQE, IFRQE_PP)])
        share = played.wv_share[1]
        found += [part.assign(point=point) for part in (theirs.decided([("random", share), ("threshold", share)]), played,
                                                        ours.decided([(ASK_FIRST, share)]))]
    runs = pd.concat(found, ignore_index=True)
    return runs.assign(model=label(config.model), values=theirs.trained(runs))


def table_of(runs, config):
    """paper.csv as a DataFrame."""
    k = config.top_k
    table = runs[["model", "strategy", "point", "seed"]].copy()
    for name, of_ranks in MEASURES.items():
        table[f"{name}@{k}"] = [of_ranks(values[RANK], k) for values in runs["values"]]
    table["loss"] = [float(values[LOSS].mean()) for values in runs["values"]]
    table[["wv", "wv_share", "disclosed_share"]] = runs[["wv", "wv_share", "disclosed_share"]]
    table["reward"] = -table.loss - config.willingness_weight * table.wv
    return table


def paper(config):
    """The study on the dataset that the settings name; writes paper.csv and paper.md.

    Raises:
        InputError: an unknown model, or the dataset, a checkpoint or unwillingness is missing or unfit.
    """
    needs_validation(config)
    if config.recipe != "paper":
        raise InputError(f"--recipe {config.recipe}: this study has the paper's options; give single ones to change them")
    models = names_of(config, "paper_models", "base model", tuple(MODELS))
    config = with_options(config, {**PROTOCOL, **TRAINING})
    if config.willingness_weight is None:
        raise InputError("--willingness_weight none: this study is of a price; leave it out, or give one")
    study, seeds = Study("paper", __name__, config), seeds_of(config, SEEDS)
    runs = []
    for model in models:
        of_model = config.replace(model=model, personal="False", output_path=str(study.folder / file_label(model)),
                                  checkpoint_path=str(Path(config.checkpoint_path) / "paper" / config.dataset))
        runs += [runs_of(study, seed_settings(of_model, seed)) for seed in seeds]
    table = table_of(pd.concat(runs, ignore_index=True), config)
    titles = [*(f"{name}@{config.top_k}" for name in MEASURES), "wv", "wv_share", "loss", "reward"]
    study.publish(table, averages(table, ["model", "strategy", "point"], dict(zip(titles, titles))))


if __name__ == "__main__":
    main(paper, "run_paper", __doc__, own=OWN)
