"""The paper's own table, started by scripts/run_paper.sh: base models and strategies by its protocol and options.

Each seed draws the unwillingness, the candidates and the initial weights anew; the data stay the same. Rewards are
-loss - lambda * wv at the paper's price of 1. Each run is kept in a file of its own, so that a stopped study goes on.
See docs/method.md.
"""
from pathlib import Path

import numpy as np
import pandas as pd

from src import metrics
from src.common.errors import InputError
from src.common.figures import drawn
from src.common.plugins import file_label, label, plugin_files
from src.common.seeds import seed_settings
from src.common.stage import Stage, main
from src.common.terminal import progress
from src.common.variant import Variant
from src.common.wording import counted, markdown_table, mean_and_std
from src.consent.unwillingness import data_files
from src.constants import MODELS, PAPER_FILE, SIMULATION
from src.device_adapter import set_device
from src.game.strategies import ASK_FIRST, IFRQE, IFRQE_PP, NONE
from src.network import build, score
from src.options import KINDS
from src.training.checkpoint import load_checkpoint

from .figures import paper_plot
from .retraining import names_of, needs_validation, show, write_tables
from .runs import LOSS, RANK, SeedRuns, groups_of_runs, results_of

OWN = {"paper_models": ("str", "mf,ncf,lightgcn", "base models, separated by commas")}
TABLE, PLOT = "paper.md", "paper.png"
SEEDS = 10  # draws of the unwillingness: M of the paper
LIKEWISE = ("random", "threshold", IFRQE, IFRQE_PP, ASK_FIRST)  # rows at either point, beside everything disclosed
WHOLE, PRICE, BUDGET = "all", "price", "budget"  # points: everything; at the price; within wv_budget
SHOWN = {"mf": "MF", "ncf": "NeuMF", "lightgcn": "LightGCN"}  # the paper's names
CHANCE = "chance"

# The paper's options where ours have a counterpart: appendix, Table 3, column Simulation; layers, num_neg, scale and
# damping as in the configuration files of the authors' repository. An option that is given goes before all of them.
PROTOCOL = {"top_k": 5, "num_eval_neg": 99, "unwillingness": "uniform", "willingness_weight": 1.0,
            "wv_budget": 0.85}  # about the share at which the paper's IFRQE++ ends on its simulation
TRAINING = {"learning_rate": 0.01, "batch_size": 2048, "min_steps": 0, "num_factors": 64, "layers": [128, 128, 64],
            "train_epochs": 50, "num_neg": 1}
METHOD = {"prior": 0.9, "rounds": 1000, "anchors": 2, "anchor_placing": "binomial", "anchor_use": "nearest",
          "anchor_warm_epochs": 0, "lissa_depth": 30, "lissa_scale": 25.0, "lissa_damping": 0.1, "influence_lags": 0,
          "shrinkage": 0.0}  # of its own strategies

# F1@5 in %, wv and reward of the paper's main results, column Simulation (asset/result.png of github.com/Paitesanshi/IFRQE):
# means over ten draws of its own simulation of 1,000 users, 1,000 items and 6,148 interactions.
SIZE = {"sim_users": 1000, "sim_items": 1000, "sim_ratings": 6148, "max_ratings": 0}
PUBLISHED = {
    ("mf", NONE): (1.75, 2.12, -2.25), ("mf", IFRQE): (1.50, 1.97, -2.09), ("mf", IFRQE_PP): (1.63, 1.82, -1.92),
    ("ncf", NONE): (0.87, 2.13, -2.32), ("ncf", "random"): (0.89, 2.02, -2.19), ("ncf", "threshold"): (1.50, 2.01, -2.18),
    ("ncf", IFRQE): (1.40, 1.91, -2.48), ("ncf", IFRQE_PP): (0.70, 1.80, -2.11),
    ("lightgcn", NONE): (0.90, 2.13, -2.82), ("lightgcn", IFRQE_PP): (0.75, 1.75, -2.44)}

MEASURES = {"f1": metrics.f1_of_ranks, "precision": metrics.precision_of_ranks, "ndcg": metrics.ndcg_of_ranks,
            "mrr": metrics.mrr_of_ranks, "hr": metrics.hit_ratio_of_ranks}

NOTE = """Mean ± standard deviation over {seeds}; F1, P, NDCG, MRR and HR in %, each test item among {negatives} negatives. \
Reward: -loss - {price:g} wv.
At "price {price:g}" `ifrqe` and `ifrqe++` play the game at that price, as the paper does; at "wv {budget:g}%" they keep \
within that share of the unwillingness, but disclose nothing that harms. At either, `random`, `threshold` and `ask-first` \
get as much wv as `ifrqe++` of the same seed.
Solver of `ifrqe` and `ifrqe++`: the paper's recursion (`lissa`) for NeuMF, which it is written for here; `block` for the \
others. `ask-first` is ours and goes by our defaults."""
NOTE_PUBLISHED = """
Published: the paper's own values at price 1, of another draw of the simulation and by another program; with {beside} \
negatives too, if the configuration files of its authors hold."""


def with_options(config, options):
    """The settings with those of the options that exist and were not given."""
    return config.replace(**{key: value for key, value in options.items() if key in KINDS and key not in config.given})


def solver_of(config, model):
    """The solver of the paper's strategies: its recursion, where the model has it."""
    if "solver" in config.given and (config.solver != "lissa" or model == "ncf"):
        return config.solver
    return "lissa" if model == "ncf" else "block"


class PaperRuns(SeedRuns):
    """The runs of one base model and seed; arguments as of SeedRuns.

    Influences come from the epoch that ranks the validation items best, as the paper chooses its model by validation. Our
    own anchor, the epoch of the lowest cross-entropy, would be an early one here: with one negative for each positive the
    cross-entropy of the held-out items rises almost from the start.
    """

    def __init__(self, config, folder, device, needed, bar):
        super().__init__(config, folder, device, needed, bar)
        if needed:
            net, info = load_checkpoint(Variant(config).checkpoint, self.dataset, Variant(config))
            self.strategies.model = {info["epoch"]: net.values()}, info

    def at(self, point, strategy, budget=1.0, weight=None):
        """What a strategy discloses within a budget, or at a price, (n,) bool, and its row of the table."""
        def make():
            disclosed = self.strategies(strategy, budget, weight).disclosed
            return {"disclosed": disclosed, "values": self._train(strategy, disclosed)}
        found = self.kept(f"{file_label(strategy)}_{point}", self.key(strategy, budget, weight=weight), make)
        disclosed, values = found["disclosed"], found["values"]
        self.bar.update()
        k = self.config.top_k
        wv, wv_share, _ = self.violation(strategy, disclosed)
        loss = float(values[LOSS].mean())
        return {"model": label(self.config.model), "strategy": strategy, "point": point, "seed": self.config.seed,
                **{f"{name}@{k}": of_ranks(values[RANK], k) for name, of_ranks in MEASURES.items()}, "loss": loss,
                "wv": wv, "wv_share": wv_share, "disclosed_share": float(disclosed.mean()),
                "reward": -loss - self.config.willingness_weight * wv}

    def _train(self, strategy, disclosed):
        """See SeedRuns; where nothing is disclosed, the network stays as it was drawn."""
        if disclosed.any():
            return super()._train(strategy, disclosed)
        net = build(self.dataset, self.config)
        scores = score(net, self.retraining.test, self.config.eval_batch_size, self.dataset.scored)
        return np.stack(results_of(scores, self.retraining.counts))


def rows_of_seed(config, folder, device, bar):
    """The rows of one base model and seed, as dicts: everything, all strategies at the price and within the budget."""
    method = with_options(config, METHOD).replace(solver=solver_of(config, config.model))
    theirs = PaperRuns(method, folder, device, True, bar)
    ours = PaperRuns(config, folder, device, False, bar)
    ours.retraining, ours.trained = theirs.retraining, theirs.trained  # the same trainings, with one graph for all of them
    rows = [theirs.at(WHOLE, NONE)]
    for point, budget, weight in ((PRICE, 1.0, config.willingness_weight), (BUDGET, config.wv_budget, None)):
        played = {name: theirs.at(point, name, budget, weight) for name in (IFRQE, IFRQE_PP)}
        share = played[IFRQE_PP]["wv_share"]
        rows += [played.get(name) or (ours if name == ASK_FIRST else theirs).at(point, name, share) for name in LIKEWISE]
    return rows


def chance(config):
    """The measures of a rank that is drawn at random, by name."""
    return {f"{name}@{config.top_k}": of_ranks(np.arange(1 + config.num_eval_neg), config.top_k)
            for name, of_ranks in MEASURES.items()}


def markdown(table, config):
    """The runs and what the paper published, as Markdown."""
    k, price, budget = config.top_k, config.willingness_weight, 100 * config.wv_budget
    published = all(getattr(config, key) == value for key, value in {**SIZE, "dataset": SIMULATION}.items())
    where = {WHOLE: "", PRICE: f"price {price:g}", BUDGET: f"wv {budget:g}%"}
    names = [f"{name}@{k}" for name in MEASURES]
    header = ["model", "strategy", "at", *(name.upper().replace("PRECISION", "P") for name in names), "wv", "share", "loss",
              "reward", *(["published F1@5", "wv", "reward"] if published else [])]
    rows = []
    for (model, point, strategy), runs in table.groupby(["model", "point", "strategy"], sort=False):
        row = [SHOWN.get(model, model), strategy, where[point], *(mean_and_std(100 * runs[name], 2) for name in names),
               mean_and_std(runs.wv, 3), f"{100 * runs.wv_share.mean():.0f}%", mean_and_std(runs.loss, 3),
               mean_and_std(runs.reward, 3)]
        rows.append(row + [f"{value:.2f}" for value in PUBLISHED.get((model, strategy), ())] if published else row)
    rows.append([CHANCE, "", "", *(f"{100 * value:.2f}" for value in chance(config).values())])
    rows = [row + [""] * (len(header) - len(row)) for row in rows]
    note = NOTE + (NOTE_PUBLISHED if published else "")
    return f"{markdown_table(header, rows)}\n\n" + note.format(
        seeds=counted(table.seed.nunique(), "seed"), negatives=config.num_eval_neg, price=price, budget=budget, beside=99)


def paper(config):
    """The study on the dataset that the settings name; writes paper.csv, .md and .png.

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
    seeds = config.seeds or [config.seed + k for k in range(SEEDS)]
    device, output = set_device(config), Path(config.output_path)
    rows = []
    with progress((1 + 2 * len(LIKEWISE)) * len(seeds) * len(models), "paper", "run") as bar:
        for seed in seeds:
            for model in models:
                folder = output / "paper" / file_label(model)
                of_seed = config.replace(model=model, checkpoint_path=str(
                    Path(config.checkpoint_path) / "paper" / config.dataset), output_path=str(folder))
                rows += rows_of_seed(seed_settings(of_seed, seed), folder, device, bar)
    table = pd.DataFrame(rows)
    table = pd.concat([table[table.model == label(model)] for model in models])  # model by model, seeds in turn
    text = markdown(table, config) + "\n"
    write_tables(output, table, PAPER_FILE, text, TABLE)
    Stage("paper", __name__, config, (*groups_of_runs(config), "decision", "repetition"),
          data_files(config) + plugin_files(*models), [output / name for name in (PAPER_FILE, TABLE)], device,
          {"own": config.own}).finish()
    drawn(paper_plot, output / PLOT, table.assign(model=table.model.map(lambda name: SHOWN.get(name, name))),
          f"f1@{config.top_k}", chance(config)[f"f1@{config.top_k}"], f"{config.dataset}: {counted(len(seeds), 'seed')}")
    show(text, output, PAPER_FILE, TABLE, PLOT)


if __name__ == "__main__":
    main(paper, "run_paper", __doc__, own=OWN)
