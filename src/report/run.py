"""What the report says of the run: data, stages, decision, options, trainings."""
from pathlib import Path

import numpy as np

from ..common.machine import mindspore_version
from ..common.plugins import label
from ..common.terminal import counted
from ..config import shipped
from ..constants import train_file
from . import panels
from .panels import figures, table

# options on which no result depends; some may hold addresses and passwords, or name users
IGNORED = ("data_path", "output_path", "checkpoint_path", "decisions_path", "archive", "masked", "overwrite", "log_level",
           "resume", "mirror", "data_url", "train_url", "recommend", "explain_user", "receipt", "verify_receipt")
UNSCORED = "Nothing is held out, so that no figure here says how well a model recommends"


def what_was_run(results, config):
    decisions, records = results.decisions, results.records
    blocks = [table(["data", ""], _data_rows(results.dataset, config), words=[1]),
              table(["stage", "seconds", ""], _stage_rows(results), words=[2])]
    machines = dict.fromkeys(record["hardware"] for record in records.values())
    blocks.append("Machine: " + "; ".join([*machines, f"MindSpore {mindspore_version()}"]) + ".")
    if decisions is not None:
        blocks.append(table(["decision", ""], _decision_rows(decisions), words=[1]))
    if changed := _changed_options(records):
        rows = [(key, value, ", ".join(stages)) for (key, value), stages in changed.items()]
        blocks.append(table(["option", "value", "stage"], rows, "Options that differ from default_config.yaml.",
                            words=[1, 2]))
    if results.left_out:
        blocks.append("Left out, since it does not belong to this run: " + "; ".join(results.left_out) + ".")
    return blocks


def _data_rows(dataset, config):
    length = dataset.history.length
    held_out = ("nothing", "1: test item", "2: test item and the one before")[config.holdout]
    users = f"{dataset.num_users:,}"
    if out := int((~dataset.taking_part).sum()):
        users += f", of whom {out:,} take no part: too little may be used"
    return [("dataset", dataset.name), ("users", users), ("items", f"{dataset.num_items:,}"),
            ("training interactions", f"{dataset.num_interactions:,}"), ("held out of each user", held_out),
            ("history of a user", f"{length.min()} to {length.max()}, median {np.median(length):.0f}"),
            ("density", f"{100 * dataset.num_interactions / dataset.num_users / dataset.num_items:.2f}% of all pairs")]


def _stage_rows(results):
    rows = [(f"train {model}", f"{found.training['seconds']:.1f}", f"{found.training['epochs']} epochs, "
             f"{found.training['ms_per_step']:.2f} ms a step, on {found.training['device']}")
            for model, found in results.models.items() if found.training is not None]
    if results.decisions is not None:
        seconds = (record := results.decisions.record)["seconds"]
        rows.append(("influence and mask", f"{seconds['total']:.1f}",
                     f"influences {seconds['influence']:.1f}, game {seconds['game']:.1f}, writing {seconds['mask']:.1f}; "
                     f"peak memory {record['peak_rss_mb']:.0f} MB"))
    scored = [(model, found.record) for model, found in results.models.items() if found.record]
    return rows + [(f"evaluate {model}", f"{record['seconds']:.1f}", f"{record['num_candidates']} candidates a user")
                   for model, record in scored]


def _decision_rows(decisions):
    record = decisions.record
    rows = [("strategy", label(record["strategy"])),
            ("unwillingness from", ", else ".join(filter(None, (record.get("willingness_file"), record["unwillingness"])))),
            ("wv", f"{record['wv']:.4g} of {record['total_wv']:.4g} ({100 * decisions.wv_share:.1f}%)")]
    if record["wv_budget"] is not None:
        rows.append(("budget", f"{100 * record['wv_budget']:g}% of total_wv"))
    if record["willingness_weight"] is not None:
        rows.append(("price of unwillingness", f"{record['willingness_weight']:.4g}"))
    if "solver" in record:
        rows.append(("influences", f"solver {record['solver']}, {record['parameter_sets']} sets of parameters, "
                                   f"{counted(record['anchors'], 'anchor')}"))
    for key, words in (("vetoed", "vetoed"), ("withdrawn", "withdrawn"), ("too_few_rows", "too little left of a user")):
        if record.get(key):
            rows.append((words, f"{record[key]:,} interactions, which take no part in anything"))
    return rows


def _changed_options(records):
    """Dict of the options that are not at their defaults, (key, value), to the list of stages that had them so."""
    defaults, changed = shipped()[0], {}
    for stage, record in records.items():
        for key, value in record.get("all_settings", {}).items():
            if key in defaults and value != defaults[key] and key not in IGNORED:
                shown = value.rstrip("/").rsplit("/", 1)[-1] if isinstance(value, str) else str(value)  # of a path its end
                changed.setdefault((key, shown), []).append(stage)
    return changed


def training(results, config):
    pictures = [panels.drawn_before((Path(config.output_path) / train_file(model)).with_suffix(".png"),
                                    f"{model}: losses and ranking metric by epoch, which train_{model.lower()}.csv holds")
                for model, found in results.models.items() if found.training is not None]
    marked = ("Marked: in the losses the epoch of the lowest validation loss, up to which influences are taken; in the "
              "metric the epoch that recommends.")
    return pictures and [figures(*pictures), *([marked] if config.holdout == 2 else [])]
