"""Options: their types, ranges and groups. Values and help are in default_config.yaml; the command line goes before both.

A stage names the groups that its results depend on. See docs/options.md.
"""
from __future__ import annotations

import argparse
import difflib
import json
import re
import sys
from pathlib import Path

from .common import plugins
from .common.errors import InputError
from .common.values import check, convert, described, load_yaml, read_comments
from .constants import MASKED_MODEL, MODELS

DEFAULT_CONFIG = Path(__file__).resolve().parent.parent / "default_config.yaml"
RECIPES = "recipes"  # key of the YAML file

# By group what a value must be: a tuple of choices, or a type, with an interval for numbers.
GROUPS = {
    "filter": {"min_ratings": "int [3, inf)", "max_ratings": "int [0, inf)", "duplicates": ("error", "last", "first")},
    "simulation": {"sim_users": "int [1, inf)", "sim_items": "int [20, inf)", "sim_ratings": "int [3, inf)"},
    "split": {"holdout": "int [1, 2]"},
    "model": {"model": (*MODELS, "FILE.py"), "layers": "ints [1, inf)", "num_factors": "int [1, inf)",
              "gcn_layers": "int [1, inf)"},
    "training": {
        "train_epochs": "int [1, inf)", "batch_size": "int [2, inf)", "learning_rate": "float (0, inf)",
        "warmup_epochs": "int [0, inf)", "beta1": "float [0, 1)", "beta2": "float [0, 1)", "epsilon": "float (0, inf)",
        "embedding_std": "float (0, inf)", "lazy_adam": "bool", "compiled": "bool", "weight_decay": "float [0, inf)",
        "average_epochs": "int [1, inf)", "anchor_epochs": "int [1, inf)", "patience": "int [0, inf)"},
    "negatives": {"num_neg": "int [1, inf)"},
    "candidates": {"num_eval_neg": "int [1, inf)", "top_k": "int [1, inf)"},
    "protocol": {"eval_negatives": "str", "eval_item_list": "str"},
    "ranking": {"eval_mode": ("sampled", "full")},
    "serving": {"personal": ("auto", "False")},
    "randomness": {"seed": "int [0, inf)"},
    "influence": {
        "solver": ("blend", "block", "lissa", "FILE.py"), "damping": "float (0, inf)",
        "similarity_damping": "float (0, inf)",
        "influence_lags": "int [0, inf)", "lissa_depth": "int [1, inf)",
        "lissa_batch": "int [2, inf)", "lissa_scale": "float [0, inf)", "lissa_damping": "float [0, 1)"},
    "chunks": {"chunk_size": "int [1, inf)"},
    "unwillingness": {
        "unwillingness": ("auto", "uniform", "constant", "ratings", "genres", "file"), "unwillingness_value": "float [0, 1]",
        "veto": "bool"},
    "decision": {
        "strategy": ("none", "random", "threshold", "recent", "similarity", "ifrqe", "ifrqe++",
                     "ask-first", "FILE.py"),
        "wv_budget": "float (0, 1]", "willingness_weight": "optional float [0, inf)"},
    "game": {
        "prior": "float (0, 1)", "rounds": "int [1, inf)", "game_rate": "float (0, inf)",
        "shrinkage": "optional float [0, 1]",
        "instalments": "floats (0, 1]", "anchors": "int [1, inf)", "anchor_placing": ("successive", "binomial"),
        "anchor_use": ("nearest", "weighted"), "anchor_warm_epochs": "int [0, inf)"},
    "fidelity": {
        "fidelity_masks": "int [3, inf)", "fidelity_repeats": "int [1, inf)", "fidelity_keep": "float (0, 1)",
        "fidelity_solvers": "str"},
    "tradeoff": {"tradeoff_strategies": "str", "tradeoff_budgets": "floats (0, 1]"},
    "audit": {"audit_strategies": "str"},
    "carryover": {"carryover_strategies": "str", "carryover_judges": "str"},
    "paper": {"paper_models": "str"},
    "repetition": {"seeds": "ints [0, inf)"},
    "processes": {"ranks": "int [1, inf)"},
    "report": {"report_users": "int [0, inf)", "report_vetoed": "bool"},
    "run": {  # no result depends on them, but by the files that they name
        "data_path": "str", "dataset": "str", "archive": "str", "mirror": "str", "recipe": "str", "resume": "bool",
        "masked": "bool", "willingness_file": "str", "eval_batch_size": "int [1, inf)",
        "eval_file_name": "str", "recommend": "str", "explain_user": "str", "newcomers": "str", "why": "pair",
        "receipt": "str", "verify_receipt": "str", "withdraw": "str", "audit": "bool",
        "format": ("table", "json"),
        "output_path": "str", "checkpoint_path": "str", "decisions_path": "str", "overwrite": "bool",
        "log_level": ("quiet", "normal", "verbose"), "device_target": ("auto", "CPU", "GPU", "Ascend"),
        "device_id": "int [0, inf)", "enable_modelarts": "bool", "data_url": "str", "train_url": "str",
        "checkpoint_url": "str"},
}
REMOVED = {  # options of earlier versions, or one of their values, and what serves instead
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

# Names that the program gives to other files under output_path.
_OWN_FILES = re.compile(r"(train|eval)_(ncf|ifrqe|mf|lightgcn).*|(train|eval)_.*\.(json|csv|png)|settings_.*|run_.*\.log|"
                        r"seed_\d+|(tradeoff|fidelity|why|audit|carryover|paper|withdraw|receipt_).*|"
                        r"(disclosure|preprocess|report|benchmark|scaling)\..*", re.I)


def options_of(*groups: str) -> tuple[str, ...]:
    """Names of the options in some groups."""
    return tuple(key for group in groups for key in GROUPS[group])


class Config:
    """Settings as attributes: `config.batch_size`.

    Args:
        values: dict of all settings.
        given: names of those that were given, on the command line or in a file of the user's own.
    """

    def __init__(self, values: dict, given: list[str] | tuple[str, ...] = ()):
        self.__dict__.update(values)
        self._values = dict(values)
        self.given = frozenset(given)

    @property
    def plain_model(self) -> str:
        """Name of the plain model, in tables and names of files."""
        return MODELS.get(self.model) or plugins.file_label(self.model)

    def select(self, *groups: str) -> dict:
        """The settings of some groups as a plain dict."""
        return {key: self._values[key] for key in options_of(*groups)}

    def as_dict(self) -> dict:
        """All settings as a plain dict."""
        return dict(self._values)

    def replace(self, **changes: object) -> Config:
        """A copy with some settings changed."""
        return Config({**self._values, **changes}, self.given)


def shipped() -> tuple[dict, dict]:
    """Default values and recipes: the dicts of default_config.yaml.

    Raises:
        InputError: it is damaged.
    """
    values = load_yaml(DEFAULT_CONFIG, DEFAULT_CONFIG.name)
    recipes = values.pop(RECIPES, None)
    if set(values) != set(KINDS) or not isinstance(recipes, dict) or values["recipe"] not in recipes:
        odd = sorted(set(map(str, values)) ^ set(KINDS))[:1] or [RECIPES]
        raise InputError(f"{DEFAULT_CONFIG}: needs each option once and the recipes, but {odd[0]} is missing or unknown; "
                         "restore it")
    return _typed(DEFAULT_CONFIG, values), recipes


def load_config(arguments: list[str], description: str = "") -> Config:
    """Reads the command line `arguments` (list of str) over the YAML defaults.

    Returns:
        Config with the effective settings.

    Raises:
        InputError: unknown option, wrong type or impossible value; the message names the option.
        SystemExit: after --help.
    """
    defaults, recipes = shipped()
    arguments = _with_values(arguments)
    first = _Parser(add_help=False, allow_abbrev=False)
    first.add_argument("--config_path")
    first.add_argument("--recipe")
    asked = first.parse_known_args(arguments)[0]
    own = load_yaml(asked.config_path, DEFAULT_CONFIG.name) if asked.config_path else {}
    recipes = {**recipes, **_own_recipes(asked.config_path, own.pop(RECIPES, None) or {})}
    recipe = asked.recipe or own.get("recipe", defaults["recipe"])
    check("recipe", recipe, tuple(recipes))
    values = {**defaults, **_typed(DEFAULT_CONFIG, recipes[recipe] or {}),
              **_typed(asked.config_path, own)}
    parsed, unknown = _parser(values, recipes, description).parse_known_args(arguments)
    if unknown:
        key = unknown[0].lstrip("-").split("=")[0]
        raise InputError(_gone(f"--{key}", key) or f"unknown option {unknown[0]}; {_suggestion(key)}")
    given = {k: v for k, v in vars(parsed).items() if v is not None and k != "config_path"}
    for key, text in given.items():
        try:
            values[key] = convert(text, KINDS[key])
        except ValueError as e:
            raise InputError(f"--{key} {text!r}: {e}") from None
    if values["holdout"] > 2:
        raise InputError(f"--holdout {values['holdout']}: must be 1 or 2 (more validation items gave the same gains; "
                         "influences look at --influence_lags items)")
    for key, kind in KINDS.items():
        if gone := _gone(f"--{key} {values[key]}", f"{key} {values[key]}"):
            raise InputError(gone)
        check(key, values[key], kind)
    _check_together(values)
    _check_model(values, {*given, *own})
    return Config(values, {*given, *own})


def _own_recipes(file, recipes):
    """The recipes of a file of the user's own, whose values are checked as all others."""
    if not isinstance(recipes, dict) or not all(isinstance(chosen, (dict, type(None))) for chosen in recipes.values()):
        raise InputError(f"{file}: {RECIPES} must hold names with options below them; see {DEFAULT_CONFIG.name}")
    return {str(name): _typed(file, chosen or {}) for name, chosen in recipes.items()}


def _typed(file, values):
    """The values of a YAML file as the types of their options."""
    typed = {}
    for key, value in values.items():
        if key not in KINDS:
            raise InputError(_gone(f"{file}: {key}", key) or f"{file}: unknown key {key!r}; {_suggestion(key)}")
        try:
            typed[key] = convert(value, KINDS[key])
        except ValueError as e:
            raise InputError(f"{file}: {key} is {value!r}, but {e}") from None
    return typed


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise InputError(f"{message}; --help lists all options")


def _parser(values, recipes, description):
    """The parser of the command line; its help is what default_config.yaml says."""
    parser = _Parser(description=description, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config_path", metavar="FILE", help="YAML file whose values replace the defaults below")
    for title, helps in read_comments(DEFAULT_CONFIG).items():
        section = parser.add_argument_group(title)
        for key, text in helps.items():
            if key != RECIPES:
                kind = tuple(recipes) if key == "recipe" else KINDS[key]
                shown = "none" if values[key] in ("", None, []) else values[key]
                # `--masked` alone means True; every other option takes one value
                extra = {"nargs": "?", "const": "True"} if _stands_alone(kind) else {}
                section.add_argument(f"--{key}", metavar=key.upper(), **extra,
                                     help=f"{text} ({described(kind)}; default: {shown})".replace("%", "%%"))
    return parser


def _with_values(arguments):
    """The command line with values that begin with a hyphen, as ids may, joined to their options: --recommend=-X9."""
    joined, words = [], list(arguments)
    while words:
        word = words.pop(0)
        if KINDS.get(word[2:]) == "pair" and len(words) > 1:
            word = f"{word}={json.dumps([words.pop(0), words.pop(0)])}"
        takes = word.startswith("--") and not _stands_alone(KINDS.get(word[2:], "bool"))
        if takes and words and words[0].startswith("-") and words[0] not in ("-h", "--help") \
                and words[0].split("=")[0][2:] not in KINDS:
            word = f"{word}={words.pop(0)}"
        joined.append(word)
    return joined


def _stands_alone(kind):
    """Whether an option of this kind may stand without a value, which then is True."""
    return kind == "bool"


def _gone(said, key):
    """What to say of a key of REMOVED, called `said`; None of any other."""
    return f"{said}: is no more; {REMOVED[key]}" if key in REMOVED else None


def _suggestion(key):
    close = difflib.get_close_matches(str(key), KINDS, 1)
    return f"did you mean --{close[0]}?" if close else "--help lists all options"


def _check_together(values):
    """Rules that join several options."""
    def refuse(when, option, why):
        if when:
            raise InputError(f"--{option} {values[option]}: {why}")

    layers = values["layers"]
    asked = any(values[key] for key in ("recommend", "explain_user", "newcomers", "why", "receipt"))
    if not layers:
        raise InputError("--layers '': needs whole numbers such as 64,32,16")
    if layers[0] % 2:
        raise InputError(f"--layers {layers[0]}: the first width must be even, "
                         "since it is the user half beside the item half")
    shares = values["instalments"]
    refuse(not shares or sorted(set(shares)) != shares or shares[-1] != 1, "instalments",
           "must be rising shares of the budget that end with 1, such as .2,.4,.6,.8,1")
    refuse(len(set(values["seeds"])) < len(values["seeds"]), "seeds", "names a seed twice; name each once")
    refuse(values["withdraw"] and values["seeds"], "withdraw",
           "changes the models of one run; leave out --seeds, and name its folders with --checkpoint_path and --output_path")
    refuse(values["audit"] and not values["withdraw"], "audit", "compares a withdrawal with a training; add --withdraw FILE")
    refuse(values["weight_decay"] and values["lazy_adam"], "weight_decay",
           "decays all rows of the tables, lazy Adam touches only those of a batch; add --lazy_adam False")
    refuse(values["holdout"] == 1 and values["masked"], "holdout",
           "the masked dataset was decided on the validation items, which this would train on; leave it out with --masked")
    refuse(values["holdout"] == 1 and values["personal"] == "auto", "personal",
           "--holdout 1 leaves no validation item to decide by; give --personal False")
    refuse(values["batch_size"] < 1 + values["num_neg"], "batch_size",
           f"must be at least 1 + num_neg = {1 + values['num_neg']}, one positive with its negatives")
    refuse(0 < values["max_ratings"] < values["min_ratings"], "max_ratings",
           f"is below min_ratings {values['min_ratings']}, so no user would be left; raise it, or set 0 for no limit")
    refuse(values["warmup_epochs"] > values["train_epochs"], "warmup_epochs",
           f"is more than train_epochs {values['train_epochs']}; lower it")
    refuse(not asked and not values["eval_negatives"] and values["top_k"] > values["num_eval_neg"], "top_k",
           f"is more than num_eval_neg {values['num_eval_neg']}, so every item would be a hit; lower it")
    refuse(_OWN_FILES.fullmatch(values["eval_file_name"]), "eval_file_name",
           "is the name of a file that holds other results; choose another, such as eval.log")
    for key, remedy in (("eval_file_name", "must be a plain file name; give the folder with --output_path"),
                        ("dataset", "must be a plain name (letters, digits, '-', '_', '.'), since it names a folder; give a "
                         "file with --archive")):
        if not re.fullmatch(r"\w[\w.+-]*", values[key]):
            raise InputError(f"--{key} {values[key]!r}: {remedy}")


def _check_model(values, given):
    """Refuses what is there for other base models than the one that is asked for."""
    model = values["model"]
    if model not in MODELS and Path(model).stem.lower() in {MASKED_MODEL.lower(), *MODELS}:
        raise InputError(f"--model {model}: has the name of another model; rename the file")
    if model != "ncf" and values["solver"] == "lissa":
        raise InputError(f"--solver lissa: is written for the parameters of ncf; with --model {model} give --solver "
                         "blend or block")
    for key, owner in ONLY.items():
        if model in MODELS and model != owner and key in given:
            raise InputError(f"--{key} {values[key]}: is an option of --model {owner} alone, not of {model}; leave it out")


def options_table() -> str:
    """docs/options.md as text: every option with its default, what it accepts and its help, section by section."""
    values, recipes = shipped()
    lines = ["# Options", "", "Made by `python -m src.config` from `default_config.yaml` (values, help) and `src/config.py` "
             "(types, ranges); a test keeps them equal.", "",
             "Each can be set on the command line (`--batch_size 1024`, `--masked`) or in a YAML file of your own "
             "(`--config_path FILE`)."]
    for title, helps in read_comments(DEFAULT_CONFIG).items():
        helps = {key: text for key, text in helps.items() if key in KINDS}
        if helps:
            lines += ["", f"## {title}", "", "| option | default | accepts | meaning |", "|---|---|---|---|"]
        for key, text in helps.items():
            kind = described(tuple(recipes) if key == "recipe" else KINDS[key])
            shown = "" if values[key] in ("", None, []) else f"`{values[key]}`"
            lines.append(f"| `{key}` | {shown} | {kind} | {text} |")
    lines += ["", "## Recipes", "", read_comments(DEFAULT_CONFIG)["Recipes"][RECIPES].capitalize() + ".", "",
              "| recipe | options |", "|---|---|"]
    lines += [f"| `{name}` | {', '.join(f'`{k} {v}`' for k, v in (chosen or {}).items()) or 'the defaults'} |"
              for name, chosen in recipes.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":  # prints docs/options.md, or with KEY [--flag value ...] one effective setting, for the scripts
    try:
        sys.stdout.write(f"{getattr(load_config(sys.argv[2:]), sys.argv[1])}\n" if len(sys.argv) > 1 else options_table())
    except InputError as e:
        print(f"error: {e}", file=sys.stderr)
        sys.exit(2)
