"""What do the models still tell of what users withhold? The leakage audit, started by scripts/run_audit.sh.

For each strategy at one budget: can the withheld items be guessed (re-inference), does a score tell whether an interaction
was trained on (membership), and do the genres that users disclose tell those that they withhold (taste). Masks and models
are made once and kept (audit_models.py); the measures, which train nothing but logistic regressions, are in
audit_measures.py. How to read them: docs/method.md.
"""
from pathlib import Path

import numpy as np

from src import metrics
from src.candidates import evaluation_candidates
from src.common.columns import NO_GENRE
from src.common.figures import drawn
from src.common.files import write_json, write_text
from src.common.plugins import label, plugin_files
from src.common.stage import Stage, main
from src.common.terminal import markdown_text, progress
from src.common.wording import markdown_table
from src.consent.unwillingness import data_files, unwillingness_source
from src.constants import AUDIT_FILE, AUDIT_PLOT, GENRES
from src.device_adapter import set_device
from src.game.strategies import NONE, STRATEGIES, find
from src.options import TRAINED
from src.sources.catalogue import load_catalogue
from src.stat_utils import generator, sample_distinct_outside, sample_outside

from . import leakage
from .audit_measures import FEWEST, Bootstrap, as_many_at_random, guessable, matched_samples, means_of_users, taste
from .audit_models import FOLDER, Models
from .figures import audit_plot
from .retraining import names_of, needs_validation, show
from .runs import groups_of_runs, settings_of_seed

OWN = {"audit_strategies": ("str", "none,threshold,ifrqe,ask-first",
                            "strategies, separated by commas, at wv_budget; none and random are always among them")}
TABLE = "audit.md"
RANDOM = "random"
RESAMPLES = 1000  # of the bootstrap over users
PAIRS = 20_000  # of each kind at most, for membership


def audit(config):
    """The audit of the dataset that the settings name; writes audit.json, audit.md and audit.png.

    Raises:
        InputError: an unknown strategy, or the dataset, a checkpoint or unwillingness is missing or unfit.
    """
    needs_validation(config)
    strategies = _strategies(config)
    needed = any(find(name).needs_model for name in strategies)
    device = set_device(config)
    output = Path(config.output_path)
    folder = output / FOLDER
    # what its trainings report is not what train.py has written under output_path
    of_models = settings_of_seed(config, config.seed, needed).replace(output_path=str(folder / "plain"))
    models = Models(of_models, folder, device, needed)
    stage = Stage("audit", __name__, config, (*groups_of_runs(config), "decision"),
                  [*data_files(config), *models.checkpoints, *plugin_files(*strategies, config.solver, config.model)],
                  [output / AUDIT_FILE, output / TABLE], device, {"own": config.own})
    if stage.is_done():
        return
    record = Audit(models, strategies).record()
    write_json(output / AUDIT_FILE, record)
    text = markdown(record)
    write_text(output / TABLE, text)
    stage.finish()
    drawn(audit_plot, output / AUDIT_PLOT, record)
    show(text, output, AUDIT_FILE, TABLE, AUDIT_PLOT)


def _strategies(config):
    """The strategies to audit: NONE and RANDOM, which the others are compared with, then those that the option lists."""
    names = names_of(config, "audit_strategies", "strategy", STRATEGIES)
    return [NONE, RANDOM, *(name for name in names if name not in (NONE, RANDOM))]


class Audit:
    """All measures of a few strategies, NONE first, on the dataset of their Models."""

    def __init__(self, models, strategies):
        self.models, self.strategies = models, strategies
        self.config, self.dataset = models.config, models.dataset
        dataset, seed = self.dataset, self.config.seed
        self.user, self.item = dataset.user, dataset.item
        self.bootstrap = Bootstrap(dataset.num_users, RESAMPLES, generator(seed, "audit", "bootstrap"))
        evaluation_candidates(dataset, "validation", self.config)  # raises InputError if users have too few items left
        self.pairs = dataset.all_pairs()
        self.untouched = sample_distinct_outside(self.pairs, self.config.num_eval_neg, generator(seed, "audit", "untouched"))
        genres = load_catalogue(dataset, self.config)[GENRES].replace(NO_GENRE, "")
        self.flags = genres.str.get_dummies("|").to_numpy(bool)  # (num_items, g)
        self.skipped = {} if self.flags.size else {"taste": "the catalogue of the dataset lists no genres"}

    def record(self):
        """What audit.json says."""
        config, dataset, problem = self.config, self.dataset, self.models.problem
        found, full = {}, None
        with progress(len(self.strategies), "audit", "strategy") as bar:
            for strategy in self.strategies:
                disclosed, values = self.models(strategy)
                full = values if strategy == NONE else full  # NONE comes first
                found[label(strategy)] = self._of_strategy(strategy, disclosed, values, full)
                bar.update()
        return {"dataset": config.dataset, "seed": config.seed, "wv_budget": config.wv_budget,
                "unwillingness": unwillingness_source(config), "num_users": dataset.num_users,
                "num_items": dataset.num_items, "num_interactions": dataset.num_interactions,
                "total_wv": metrics.willingness_violation(np.ones(len(self.user)), problem.unwillingness, dataset.num_users),
                "negatives": self.untouched.shape[1], "top_k": config.top_k, "resamples": RESAMPLES,
                "settings": {"recipe": config.recipe, **config.select("split", "model", *TRAINED)},
                "device": self.models.device, "skipped": self.skipped, "strategies": found}

    def _of_strategy(self, strategy, disclosed, values, full):
        total = self.models.problem.unwillingness.sum()
        withheld = int((~disclosed).sum())
        row = {"wv_share": float(self.models.problem.unwillingness[disclosed].sum() / total) if total else 0.0,
               "disclosed_share": float(disclosed.mean()), "withheld": withheld,
               "users_without_disclosed": self.dataset.num_users - len(np.unique(self.user[disclosed]))}
        nothing = {"skipped": "it withholds nothing"}
        row["reinference"] = self._reinference(disclosed, values, full) if withheld else nothing
        row["membership"] = self._membership(strategy, disclosed, values, full)
        if self.skipped:
            nothing = {"skipped": self.skipped["taste"]}
        row["taste"] = self._taste(disclosed) if withheld and not self.skipped else nothing
        return row

    def _reinference(self, disclosed, values, full):
        """Ranks of the withheld items among untouched ones, by the own and the full model, and by popularity alone."""
        user, item, bootstrap = self.user[~disclosed], self.item[~disclosed], self.bootstrap
        popularity = np.bincount(self.item[disclosed], minlength=self.dataset.num_items).astype(np.float32)
        of_users, result = {}, {}
        by = {"own": lambda u, i: self.models.scores(values, u, i), "full": lambda u, i: self.models.scores(full, u, i),
              "popularity": lambda u, i: popularity[i]}
        for name, score in by.items():
            others = score(np.repeat(np.arange(self.dataset.num_users, dtype=np.int32), self.untouched.shape[1]),
                           self.untouched.ravel()).reshape(self.untouched.shape)
            auc, listed = guessable(score(user, item), user, others, self.config.top_k)
            of_users[name] = means_of_users(auc, user, self.dataset.num_users)
            result[name] = {**bootstrap.mean(of_users[name]),
                            "listed": float(np.nanmean(means_of_users(listed, user, self.dataset.num_users)))}
        for name in ("full", "popularity"):
            change = bootstrap.mean(of_users["own"] - of_users[name])
            result[f"own_less_{name}"] = {"difference": change["auc"], "interval": change["interval"]}
        return {"users": int(np.isfinite(of_users["own"]).sum()), **result}

    def _membership(self, strategy, disclosed, values, full):
        """AUCs of the score for disclosed, withheld and untouched pairs, of the same users and in equal numbers."""
        rng = generator(self.config.seed, "audit", "membership")
        withheld, kept = matched_samples(disclosed, self.user, PAIRS, rng)
        if not len(withheld):
            kept = np.sort(rng.permutation(np.flatnonzero(disclosed))[:PAIRS])
        user = self.user[kept]
        untouched = sample_outside(user, self.pairs, rng)[:, 0]
        scores = {"disclosed": self.models.scores(values, user, self.item[kept]),
                  "untouched": self.models.scores(values, user, untouched)}
        result = {"pairs": len(kept)}
        kinds = [("disclosed", "untouched")]
        if len(withheld):
            scores["withheld"] = self.models.scores(values, user, self.item[withheld])
            kinds += [("disclosed", "withheld"), ("withheld", "untouched")]
        for positive, negative in kinds:
            result[f"{positive}_{negative}"] = self._auc(scores[positive], scores[negative], user)
        if len(withheld):  # the control: a model that was trained on both
            result["disclosed_withheld_full"] = self._auc(*(self.models.scores(full, user, self.item[rows])
                                                            for rows in (kept, withheld)), user)
        return result

    def _auc(self, positive, negative, user):
        """AUC of scores of two kinds of pairs, each (m,), of (m,) users."""
        labels = np.arange(2 * len(user)) < len(user)
        return self.bootstrap.auc(np.concatenate([positive, negative]), labels, np.concatenate([user, user]))

    def _taste(self, disclosed):
        """The pattern of withholding, and that of a mask that withholds as many interactions of each user at random."""
        config, found = self.config, {}
        matched = as_many_at_random(disclosed, self.user, generator(config.seed, "audit", "matched"))
        for name, mask in (("own", disclosed), ("matched", matched)):
            found[name] = taste(mask, self.user, self.item, self.flags, self.bootstrap, config.seed)
        if None in found.values():
            return {"skipped": f"no genre parts the users into two classes of at least {FEWEST}"}
        return found


def markdown(record):
    """audit.md: the table, what it says, and what was left out and why."""
    budget = f"{100 * record['wv_budget']:g}%"
    lines = [f"# {record['dataset']}: what the models still tell at {budget} of the unwillingness", ""]
    for header, rows, caption in leakage.tables(record):
        lines += [markdown_table(header, rows), "", caption, ""]
    return "\n".join(lines + [f"- {markdown_text(line)}" for line in leakage.remarks(record)]) + "\n"


if __name__ == "__main__":
    main(audit, "run_audit", __doc__, own=OWN)
