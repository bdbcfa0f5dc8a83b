"""The options by group, with their types and ranges, and which of them each program goes by. See docs/options.md.

A stage names the groups that its results depend on.
"""
from __future__ import annotations

import re
from pathlib import Path

from .common.errors import InputError
from .constants import MASKED_MODEL, MODELS

# By group what a value must be: a tuple of choices, or a type, with an interval for numbers.
GROUPS = {
    "filter": {"min_ratings": "int [1, inf)", "max_ratings": "int [0, inf)", "duplicates": ("error", "last", "first")},
    "simulation": {"sim_users": "int [1, inf)", "sim_items": "int [20, inf)", "sim_ratings": "int [3, inf)"},
    "split": {"holdout": "int [0, 2]"},
    "model": {"model": (*MODELS, "FILE.py"), "layers": "ints [1, inf)", "num_factors": "int [1, inf)",
              "gcn_layers": "int [1, inf)"},
    "training": {
        "train_epochs": "int [1, inf)", "batch_size": "int [2, inf)", "learning_rate": "float (0, inf)",
        "warmup_epochs": "int [0, inf)", "beta1": "float [0, 1)", "beta2": "float [0, 1)", "epsilon": "float (0, inf)",
        "embedding_std": "float (0, inf)", "lazy_adam": "bool", "compiled": "bool", "weight_decay": "float [0, inf)",
        "average_epochs": "int [1, inf)", "anchor_epochs": "int [1, inf)", "patience": "int [0, inf)",
        "min_steps": "int [0, inf)"},
    "negatives": {"num_neg": "int [1, inf)"},
    "candidates": {"num_eval_neg": "int [1, inf)", "top_k": "int [1, inf)"},
    "protocol": {"eval_negatives": "str", "eval_item_list": "str"},
    "ranking": {"eval_mode": ("sampled", "full")},
    "serving": {"personal": ("auto", "False")},
    "randomness": {"seed": "int [0, inf)"},
    "influence": {
        "solver": ("blend", "block", "lissa", "FILE.py"), "damping": "float (0, inf)", "influence_lags": "int [0, inf)",
        "lissa_depth": "int [1, inf)", "lissa_scale": "float [0, inf)"},
    "chunks": {"chunk_size": "int [1, inf)"},
    "unwillingness": {
        "unwillingness": ("auto", "uniform", "constant", "ratings", "genres", "file"), "unwillingness_value": "float [0, 1]",
        "veto": "bool"},
    "decision": {
        "strategy": ("none", "random", "threshold", "recent", "similarity", "ifrqe", "ifrqe++", "ask-first", "FILE.py"),
        "wv_budget": "float (0, 1]", "willingness_weight": "optional float [0, inf)"},
    "game": {
        "prior": "float (0, 1)", "rounds": "int [1, inf)", "game_rate": "float (0, inf)",
        "shrinkage": "optional float [0, 1]", "instalments": "floats (0, 1]", "anchors": "int [1, inf)",
        "anchor_placing": ("successive", "binomial"), "anchor_use": ("nearest", "weighted"),
        "anchor_warm_epochs": "int [0, inf)"},
    "repetition": {"seeds": "ints [0, inf)"},
    "processes": {"ranks": "int [1, inf)"},
    "hosts": {"local_ranks": "int [0, inf)", "node_rank": "int [0, inf)", "master_addr": "str",
              "master_port": "int [0, 65535]"},
    "report": {"report_users": "int [0, inf)", "report_vetoed": "bool"},
    "storage": {"table": ("auto", "csv", "parquet")},
    # no result depends on the rest, but by the files that they name
    "source": {"archive": "str", "items": "str", "mirror": "str"},
    "run": {
        "recipe": "str", "resume": "bool", "warm_start": "bool", "masked": "bool", "willingness_file": "str",
        "eval_batch_size": "int [1, inf)", "eval_file_name": "str", "recommend": "str", "explain_user": "str", "why": "pair",
        "receipt": "str", "verify_receipt": "str", "newcomers": "str", "update": "str", "withdraw": "str", "allow": "str",
        "format": ("table", "json"), "decisions_path": "str"},
    "places": {
        "data_path": "str", "dataset": "str", "output_path": "str", "checkpoint_path": "str", "overwrite": "bool",
        "log_level": ("quiet", "normal", "verbose"), "device_target": ("auto", "CPU", "GPU", "Ascend"),
        "device_id": "int [0, inf)"},
    "modelarts": {"enable_modelarts": "bool", "data_url": "str", "train_url": "str"},
}
REMOVED = {  # options of earlier versions, or one of their values, and what serves instead
    "audit": "scripts/run_withdrawal.sh compares withdrawing with a training without",
    "similarity_damping": "damping alone remains; the regression on items keeps its ridge of 10",
    "lissa_batch": "lissa_depth and lissa_scale remain; a step has 256 samples",
    "lissa_damping": "it is .01; a larger lissa_scale has a like effect",
    "checkpoint_url": "checkpoints of an earlier job under the same train_url are fetched",
    "holdout 3": "0, 1 or 2 serve, and influences look at --influence_lags items; more gave the same gains",
    "budget_scope": "wv_budget is of all users together; for less of a user, state more unwillingness in a willingness_file",
    "protect": "raise wv_budget; scripts/run_tradeoff.sh says how many users are surely worse off",
    "needs": "receipts and --explain_user say what each interaction is worth to its user",
    "anchor_placing budget": "successive and binomial serve",
    "strategy none+validation": "it is a control of the trade-off study: scripts/run_tradeoff.sh",
    "influence_models": "influences come from the one plain model, at its anchor_epochs",
    "other_model": "give the options that the model was trained with, or train anew with these",
    "personal True": "auto serves refitted rows where the validation items prefer them, and gives the figures of both",
    "count_others": "the game counts what a disclosure does for its own user; for sparse data raise shrinkage",
}
ONLY = {"layers": "ncf", "gcn_layers": "lightgcn"}  # options of the group "model" that one base model has alone
KINDS = {key: kind for group in GROUPS.values() for key, kind in group.items()}

# Groups that several stages share.
TRAINED = ("training", "negatives", "candidates", "randomness")  # what a model was trained with, beside split and model
INFLUENCES = ("influence", "negatives", "randomness")
MASK = ("unwillingness", "decision", "game")
EVALUATED = ("candidates", "protocol", "ranking", "serving", "randomness")

# What each program is called, the groups and options that it goes by, beside _EVERYWHERE, and those that it compares with
# what was done before. Others do nothing in it, and are refused on its command line.
_EVERYWHERE = ("places", "randomness")
_DATA = ("archive", "items", "filter", "simulation", "storage")
_MODEL = ("split", "model", "training", "negatives", "candidates", "recipe")
_RULES = ("unwillingness", "willingness_file")
_DECIDED = ("influence", "chunks", "decision", "game")
_STUDY = (*_MODEL, *_RULES, *_DECIDED, *EVALUATED, "eval_batch_size")
_CHECKOUT = Path(__file__).resolve().parents[1]
# the programs in studies/ and benchmarks/, each with a script; names of options that one has of its own begin with its name
STUDIES = tuple(sorted(path.stem for folder in ("studies", "benchmarks") for path in (_CHECKOUT / folder).glob("*.py")
                       if (_CHECKOUT / "scripts" / f"run_{path.stem}.sh").is_file()))
_ALSO = {"withdrawal": ("masked",), "scaling": ("processes",)}
QUESTIONS = ("recommend", "explain_user", "why", "receipt", "verify_receipt")
PROGRAMS = {
    "run_download_dataset": ("scripts/run_download_dataset.sh", ("source", "filter", "simulation", "storage"), _RULES),
    "run_train": ("train.py", (*_MODEL, *_RULES, "chunks", "repetition", "processes", "hosts", "resume", "warm_start",
                               "masked", "withdraw", "allow", "decisions_path", "eval_batch_size"), (*_DATA, *_DECIDED)),
    "run_preprocess": ("preprocess.py", ("split", *_RULES, *_DECIDED, "recipe", "processes", "hosts", "newcomers", "update",
                                         "masked", "format", "decisions_path"),
                       (*_DATA, *_MODEL, "resume", "eval_batch_size")),
    "run_eval": ("eval.py", (*QUESTIONS, "masked", "split", *_RULES, *EVALUATED, "eval_batch_size", "eval_file_name",
                             "format", "decisions_path", "repetition", "processes", "hosts", "report", "recipe"),
                 (*_DATA, *_MODEL, *_DECIDED)),
    **{f"run_{name}": (f"scripts/run_{name}.sh", (*_ALSO.get(name, ()), "repetition", "recipe"), (*_STUDY, *_DATA))
       for name in STUDIES},
}
_NEEDED = {  # of a program what does something in it beside others alone: those, and what to do
    ("run_preprocess", "masked"): (("newcomers",), "it says which model --newcomers join"),
    ("run_train", "warm_start"): (("masked",), "it goes on from the masked model, to learn what updates have added"),
    ("run_preprocess", "format"): (("newcomers",), "it says how --newcomers answers"),
    ("run_eval", "format"): (QUESTIONS, "it says how a question is answered, such as --recommend"),
    **{("run_train", key): (("masked",), "with --masked it is compared with the mask, which preprocess.py makes")
       for group in ("influence", "decision", "game") for key in GROUPS[group]},
}
_ASKED = (), "is about a few users"
_ALONE = {  # by option which of its values do not go with --ranks, () for any, and why; all else does, in every stage
    "strategy": (("FILE.py",), "orders the interactions of all users at once"),
    "solver": (("lissa", "FILE.py"), "may look at the data of all users at once"),
    "model": (("lightgcn",), "trains every row on the data of all users"),
    **dict.fromkeys((*QUESTIONS, "newcomers", "update", "withdraw", "allow"), _ASKED),
}


def options_of(*groups: str) -> tuple[str, ...]:
    return tuple(key for group in groups for key in GROUPS[group])


def options_in(program: str, shown: bool = False) -> set[str]:
    """Names of the options that a program takes, or of those that its --help shows."""
    _, own, compared = PROGRAMS[program]
    names = (*_EVERYWHERE, *own) if shown else (*_EVERYWHERE, "modelarts", *own, *compared)
    return {key for name in names for key in GROUPS.get(name, [name])}


def study_of(key: str) -> str | None:
    """The study, as a key of PROGRAMS, that has an option of its own by this name; None for any other."""
    name, _, rest = key.partition("_")
    return f"run_{name}" if rest and name in STUDIES else None


def check_program(program, flags_of, values, given):
    """Raises InputError for an option that does nothing in the program that it was given to, nor in any of `flags_of`."""
    programs = flags_of or ([program] if program in PROGRAMS else [])
    if not values["holdout"] and any(name[4:] in STUDIES for name in programs):
        raise InputError("--holdout 0: leaves nothing that a study could score by; leave it out")
    taken = set().union(*map(options_in, programs))
    called = " and ".join(PROGRAMS[name][0] for name in programs)
    for key in given if programs else ():
        if key not in taken:
            owners = [PROGRAMS[name][0] for name in PROGRAMS if key in options_in(name, shown=True)]
            raise InputError(f"--{key}: does nothing in {called}; it is an option of {' and '.join(owners[:3])}")
        others, why = ((), "") if flags_of else _NEEDED.get((program, key), ((), ""))
        if others and values[key] not in (False, "table") and not any(values[other] for other in others):
            raise InputError(f"--{key}: does nothing in this command of {called}; {why}")


def _check_ranks(values, refuse):
    for option, (alone, why) in _ALONE.items() if values["ranks"] > 1 else ():
        file = str(values[option]).endswith(".py")
        refuse(values[option] and (not alone or values[option] in alone or file and "FILE.py" in alone), option,
               f"{why}, so that it is for one process; give --ranks 1")
    local = values["local_ranks"] or values["ranks"]
    refuse(local > values["ranks"] or values["ranks"] % local, "local_ranks",
           f"each host has as many of the --ranks {values['ranks']}; give a divisor of them, the same on all hosts")
    hosts = values["ranks"] // local
    refuse(values["node_rank"] >= hosts, "node_rank", f"hosts have the numbers 0 to {hosts - 1}, --ranks over --local_ranks")
    refuse(hosts > 1 and not (values["master_addr"] and values["master_port"]), "local_ranks",
           "several hosts need --master_addr and --master_port, an address and a free port of host 0, on all of them")


def check_together(values: dict, given: set[str]) -> None:
    """Raises InputError where options do not go together; `given` are those that the user gave."""
    def refuse(when, option, why):
        if when:
            raise InputError(f"--{option} {values[option]}: {why}")

    layers, shares, model = values["layers"], values["instalments"], values["model"]
    questions = [f"--{key}" for key in QUESTIONS if values[key]]
    refuse(not layers, "layers", "needs whole numbers such as 64,32,16")
    refuse(layers[0] % 2, "layers", "the first width must be even, since it is the user half beside the item half")
    refuse(not shares or sorted(set(shares)) != shares or shares[-1] != 1, "instalments",
           "must be rising shares of the budget that end with 1, such as .2,.4,.6,.8,1")
    refuse(len(set(values["seeds"])) < len(values["seeds"]), "seeds", "names a seed twice; name each once")
    for option in ("withdraw", "allow"):
        refuse(values[option] and values["seeds"], option,
               "is of one run; leave out --seeds, and name its folders with --checkpoint_path and --output_path")
    refuse(values["withdraw"] and values["allow"], "allow", "is another request than --withdraw; give one after the other")
    refuse(values["update"] and values["holdout"], "update", "is for --holdout 0, where all is decided; give it")
    refuse(values["warm_start"] and values["holdout"], "warm_start", "goes on after updates, for which give --holdout 0")
    refuse(values["update"] and values["newcomers"], "update", "decides and writes, --newcomers only shows; give one")
    _check_ranks(values, refuse)
    if len(questions) > 1:
        raise InputError(f"{' and '.join(questions)}: are two questions; ask one at a time")
    refuse(values["weight_decay"] and values["lazy_adam"], "weight_decay",
           "decays all rows of the tables, lazy Adam touches only those of a batch; add --lazy_adam False")
    refuse(values["holdout"] == 1 and values["masked"], "holdout",
           "the masked dataset was decided on the validation items, which this would train on; leave it out with --masked")
    refuse(values["holdout"] < 2 and values["personal"] == "auto", "personal",
           f"--holdout {values['holdout']} leaves no validation item to decide by; give --personal False")
    refuse(values["batch_size"] < 1 + values["num_neg"], "batch_size",
           f"must be at least 1 + num_neg = {1 + values['num_neg']}, one positive with its negatives")
    refuse(0 < values["max_ratings"] < values["min_ratings"], "max_ratings",
           f"is below min_ratings {values['min_ratings']}, so no user would be left; raise it, or set 0 for no limit")
    refuse(values["warmup_epochs"] > values["train_epochs"] and not values["warm_start"], "warmup_epochs",
           f"is more than train_epochs {values['train_epochs']}; lower it")
    asked = questions or values["newcomers"] or values["eval_negatives"]
    refuse(not asked and values["top_k"] > values["num_eval_neg"], "top_k",
           f"is more than num_eval_neg {values['num_eval_neg']}, so every item would be a hit; lower it")
    refuse(not re.fullmatch(r"\w[\w.+-]*", values["dataset"]), "dataset", "must be a plain name (letters, digits, '-', '_', "
           "'.'), since it names a folder; give a file with --archive")
    refuse(not re.fullmatch(r"(?!run_)\w[\w.+-]*\.(log|txt)", values["eval_file_name"], re.I), "eval_file_name",
           "must be a plain file name that ends with .log or .txt and does not begin with run_, since other names are of "
           "results and of programs' logs; give the folder with --output_path")
    refuse(model not in MODELS and Path(model).stem.lower() in {MASKED_MODEL.lower(), *MODELS}, "model",
           "has the name of another model; rename the file")
    refuse(model != "ncf" and values["solver"] == "lissa", "solver",
           f"is written for the parameters of ncf; with --model {model} give --solver blend or block")
    for key, owner in ONLY.items():
        refuse(model in MODELS and model != owner and key in given, key,
               f"is an option of --model {owner} alone, not of {model}; leave it out")
