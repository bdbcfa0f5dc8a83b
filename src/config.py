"""The effective settings: the command line over a YAML file over recipes over default_config.yaml, all checked."""
from __future__ import annotations

import argparse
import difflib
import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from .common import plugins
from .common.errors import InputError
from .common.values import check, convert, described, load_yaml, read_comments
from .constants import MASKED_MODEL, MODELS
from .options import KINDS, ONLY, PROGRAMS, QUESTIONS, REMOVED, check_program, options_in, options_of, study_of

_FOLDER = Path(__file__).resolve().parent
DEFAULT_CONFIG = (_FOLDER.parent if _FOLDER.name == "src" else _FOLDER) / "default_config.yaml"  # in a checkout, installed
RECIPES = "recipes"  # key of the YAML file
FLAGS_OF = "flags_of"  # option of the scripts alone: keys of PROGRAMS, all of which get the same command line

# Names that the program gives to other files under output_path.
_OWN_FILES = re.compile(r"(train|eval)_(ncf|ifrqe|mf|lightgcn).*|(train|eval)_.*\.(json|csv|png)|settings_.*|run_.*\.log|"
                        r"seed_\d+|(tradeoff|fidelity|why|audit|carryover|paper|withdraw|receipt_).*|"
                        r"(disclosure|preprocess|report|benchmark|scaling)\..*", re.I)


class Config:
    """Settings as attributes: `config.batch_size`.

    Args:
        values: dict of all settings.
        marks: names of those that were given, on the command line or in a file of the user's own; and with "line " before
            them those of the command line, with "recipe " those that a recipe sets that was given.

    `given` has the names alone.
    """

    def __init__(self, values: dict, marks: Iterable[str] = ()):
        self.__dict__.update(values)
        self._values = dict(values)
        self.marks = frozenset(marks)
        self.given = frozenset(mark for mark in marks if " " not in mark)

    @property
    def plain_model(self) -> str:
        """Name of the plain model, in tables and names of files."""
        return MODELS.get(self.model) or plugins.file_label(self.model)

    def select(self, *groups: str) -> dict:
        """The settings of some groups as a plain dict; a FILE.py by its plugins.identity."""
        return {key: plugins.identity(value) if "FILE.py" in KINDS[key] else value
                for key in options_of(*groups) for value in [self._values[key]]}

    @property
    def own(self) -> dict:
        """The options that the program has beside those of `options`."""
        return {key: value for key, value in self._values.items() if key not in KINDS}

    def asked_for(self, *groups: str) -> dict:
        """Of the settings of some groups those that were given, one by one or by a recipe that was."""
        return {key: value for key, value in self.select(*groups).items() if {key, f"recipe {key}"} & self.marks}

    def by_line(self) -> Config:
        """The same settings, of which only those count as given that stand on the command line."""
        line = {mark[len("line "):] for mark in self.marks if mark.startswith("line ")}
        kept = {mark for mark in self.marks if mark.startswith(("line ", "recipe ") if "recipe" in line else "line ")}
        return Config(self._values, line | kept)

    def as_dict(self) -> dict:
        """All settings as a plain dict."""
        return dict(self._values)

    def replace(self, **changes: object) -> Config:
        """A copy with some settings changed."""
        return Config({**self._values, **changes}, self.marks)


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
    return _typed(DEFAULT_CONFIG, values), _typed_recipes(DEFAULT_CONFIG, recipes)


def load_config(arguments: list[str], description: str = "", program: str = "",
                own: dict[str, tuple[str, object, str]] | None = None) -> Config:
    """Reads the command line `arguments` (list of str) over the YAML defaults.

    Args:
        program: key of PROGRAMS, whose options alone may be on the command line; "" for any.
        own: by name kind, default and help of the options that this program has beside them.

    Returns:
        Config with the effective settings.

    Raises:
        InputError: unknown option, wrong type or impossible value, or one that does nothing here; the message names it.
        SystemExit: after --help.
    """
    defaults, recipes = shipped()
    kinds = {**KINDS, **{key: kind for key, (kind, _, _) in (own or {}).items()}}
    defaults.update({key: default for key, (_, default, _) in (own or {}).items()})
    arguments = _with_values(arguments)
    first = _Parser(add_help=False, allow_abbrev=False)
    for key in ("config_path", "recipe", FLAGS_OF):
        first.add_argument(f"--{key}")
    asked, arguments = first.parse_known_args(arguments)
    programs = asked.flags_of.split(",") if asked.flags_of else []
    file = load_yaml(asked.config_path, DEFAULT_CONFIG.name) if asked.config_path else {}
    file = {key: value for key, value in file.items() if key in kinds or study_of(str(key)) in (None, program)}
    recipes = {**recipes, **_typed_recipes(asked.config_path, file.pop(RECIPES, None) or {})}
    recipe = asked.recipe or file.get("recipe", defaults["recipe"])
    named = {} if asked.recipe is None else {"recipe": asked.recipe}
    of_recipe = _whole(recipe, recipes)
    values = {**defaults, **of_recipe, **_typed(asked.config_path, file, kinds), **named}
    parsed, unknown = _parser(values, recipes, description, program, own or {}).parse_known_args(arguments)
    if unknown := _left_to_studies(unknown, {*programs} - {program}):
        key = unknown[0].lstrip("-").split("=")[0]
        if study_of(key) not in (None, program):
            raise InputError(f"--{key}: does nothing here; it is an option of {PROGRAMS[study_of(key)][0]}")
        raise InputError(_gone(f"--{key}", key) or f"unknown option {unknown[0]}; {_suggestion(key, kinds)}")
    given = {**{k: v for k, v in vars(parsed).items() if v is not None}, **named}
    for key, text in given.items():
        try:
            values[key] = convert(text, kinds[key])
        except ValueError as e:
            raise InputError(f"--{key} {text!r}: {e}") from None
    if "batch_size" in {*given, *file} and "min_steps" not in {*given, *file}:
        values["min_steps"] = 0  # a size of one's own is kept
    if values["holdout"] > 2:
        raise InputError(f"--holdout {values['holdout']}: must be 1 or 2 (more validation items gave the same gains; "
                         "influences look at --influence_lags items)")
    for key, kind in kinds.items():
        if gone := _gone(f"--{key} {values[key]}", f"{key} {values[key]}"):
            raise InputError(gone)
        check(key, values[key], kind)
    check_program(program, programs, values, {*given} - {*(own or {})})
    _check_together(values)
    _check_model(values, {*given, *file})
    by_recipe = {f"recipe {key}" for key in of_recipe if "recipe" in {*given, *file}}
    return Config(values, {*given, *file, *by_recipe, *(f"line {key}" for key in given)})


def _whole(name, recipes, seen=()):
    """The options of a recipe, those of the recipe that it goes on from (its own `recipe`) among them."""
    check("recipe", name, tuple(recipes))
    if name in seen:
        raise InputError(f"recipe {name}: goes on from itself ({' -> '.join((*seen, name))}); give it a name of its own")
    options = dict(recipes[name])
    base = options.pop("recipe", None)
    return {**(_whole(base, recipes, (*seen, name)) if base else {}), **options}


def _typed_recipes(file, recipes):
    """The recipes of a YAML file, with the values as the types of their options."""
    if not isinstance(recipes, dict) or not all(isinstance(chosen, (dict, type(None))) for chosen in recipes.values()):
        raise InputError(f"{file}: {RECIPES} must hold names with options below them; see {DEFAULT_CONFIG.name}")
    return {str(name): _typed(file, chosen or {}) for name, chosen in recipes.items()}


def _left_to_studies(unknown, programs):
    """Of the words of a command line those that are no options, with values, of the studies among `programs`."""
    left, words = [], list(unknown)
    while words:
        word = words.pop(0)
        if word.startswith("--") and study_of(word[2:].split("=")[0]) in programs:
            words = words[1:] if "=" not in word and words and not words[0].startswith("--") else words
        else:
            left.append(word)
    return left


def _typed(file, values, kinds=KINDS):
    """The values of a YAML file as the types of their options."""
    typed = {}
    for key, value in values.items():
        if key not in kinds:
            raise InputError(_gone(f"{file}: {key}", key) or f"{file}: unknown key {key!r}; {_suggestion(key, kinds)}")
        try:
            typed[key] = convert(value, kinds[key])
        except ValueError as e:
            raise InputError(f"{file}: {key} is {value!r}, but {e}") from None
    return typed


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise InputError(f"{message}; --help all lists all options")


class _Help(argparse.Action):
    """--help shows the options of a program and the first thing to say of each, --help all everything."""

    def __call__(self, parser, namespace, values, option_string=None):
        for action in parser._actions if self.const and values != "all" else ():
            if action.dest in KINDS:
                action.help = action.brief if action.dest in self.const else argparse.SUPPRESS
        parser.print_help()
        parser.exit()


def _parser(values, recipes, description, program, own):
    """The parser of the command line; its help is what default_config.yaml says."""
    parser = _Parser(description=description, allow_abbrev=False, add_help=False, usage="%(prog)s [--option value ...]",
                     formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=8),
                     epilog="--help all: the options of all programs; docs/options.md has them in a table")
    parser.add_argument("-h", "--help", nargs="?", action=_Help, help=argparse.SUPPRESS, default=argparse.SUPPRESS,
                        const=options_in(program, shown=True) if program in PROGRAMS else None)
    parser.add_argument("--config_path", metavar="FILE", help="YAML file whose values replace the defaults below")
    for title, helps in read_comments(DEFAULT_CONFIG).items():
        section = parser.add_argument_group(title)
        for key, text in helps.items():
            if key != RECIPES:
                kind = tuple(recipes) if key == "recipe" else KINDS[key]
                shown = "none" if values[key] in ("", None, []) else values[key]
                # `--masked` alone means True; every other option takes one value
                extra = {"nargs": "?", "const": "True"} if _stands_alone(kind) else {}
                text = text.replace("%", "%%")
                form = "VALUE" if isinstance(kind, tuple) else kind.split()[0].upper()
                option = section.add_argument(f"--{key}", metavar=form, **extra,
                                              help=f"{text} ({described(kind)}; default: {shown})")
                said = [f"one of {', '.join(kind)}"] if isinstance(kind, tuple) else []
                said += [f"default: {shown}"] if shown != "none" and shown is not False else []
                option.brief = re.split(r"; |(?<!e\.g)\. ", text)[0] + (f" ({'; '.join(said)})" if said else "")
    for key, (kind, _, text) in own.items():
        parser.add_argument(f"--{key}", metavar=kind.split()[0].upper(), help=f"{text} ({kind}; default: {values[key]})")
    return parser


def _with_values(arguments):
    """The command line with values that begin with a hyphen, as ids may, joined to their options: --recommend=-X9."""
    joined, words = [], list(arguments)
    while words:
        word = words.pop(0)
        if KINDS.get(word[2:]) == "pair" and len(words) > 1:
            pair = words.pop(0), words.pop(0)
            if any(_is_option(value) for value in pair):
                raise InputError(f"{word} {' '.join(pair)}: needs two values before the next option")
            word = f"{word}={json.dumps(pair)}"
        takes = word.startswith("--") and not _stands_alone(KINDS.get(word[2:], "bool"))
        if takes and words and words[0].startswith("-") and not _is_option(words[0]):
            word = f"{word}={words.pop(0)}"
        joined.append(word)
    return joined


def _is_option(word):
    return word in ("-h", "--help") or word.startswith("--") and word.split("=")[0][2:] in {*KINDS, FLAGS_OF, "config_path"}


def _stands_alone(kind):
    """Whether an option of this kind may stand without a value, which then is True."""
    return kind == "bool"


def _gone(said, key):
    """What to say of a key of REMOVED, called `said`; None of any other."""
    return f"{said}: is no more; {REMOVED[key]}" if key in REMOVED else None


def _suggestion(key, kinds):
    close = difflib.get_close_matches(str(key), kinds, 1)
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
    questions = [f"--{key}" for key in QUESTIONS if values[key]]
    if len(questions) > 1:
        raise InputError(f"{' and '.join(questions)}: are two questions; ask one at a time")
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
    lines = ["# Options", "", "Made by `python -m src.config` from `default_config.yaml` (values, help) and "
             "`src/options.py` (types, ranges); a test keeps them equal.", "",
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


if __name__ == "__main__":
    # prints docs/options.md; or with KEY [--flag value ...], for the scripts, one effective setting, or what was given
    try:
        if len(sys.argv) == 1:
            sys.stdout.write(options_table())
        else:
            settings = load_config(sys.argv[2:])
            print(" ".join(sorted(settings.given)) if sys.argv[1] == "given" else getattr(settings, sys.argv[1]))
    except InputError as e:
        print(f"error: {e}", file=sys.stderr)
        sys.exit(2)
