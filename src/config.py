"""Settings: the YAML file of default values, overridden by the command line.

The file holds four documents: values, help, types with accepted values, and recipes. A recipe is a named set of values
that replaces those of the first document; a file of the user's own and the command line win over it.
"""
import argparse
import difflib
import math
import re
import sys
from pathlib import Path

import yaml

from .common import plugins
from .common.errors import InputError

DEFAULT_CONFIG = Path(__file__).resolve().parent.parent / "default_config.yaml"

# Names that the program gives to other files under output_path.
_OWN_FILES = re.compile(r"(train|eval)_(ncf|ifrqe).*|settings_.*|run_.*\.log|seed_\d+|(tradeoff|fidelity|influence).*|"
                        r"(disclosure|preprocess|report|benchmark|scaling)\..*", re.I)


class Config:
    """Settings as attributes: `config.batch_size`.

    Args:
        values: dict of all settings.
        given: names of those that were given, on the command line or in a file of the user's own.
    """

    def __init__(self, values, given=()):
        self.__dict__.update(values)
        self._values = dict(values)
        self.given = frozenset(given)

    def select(self, keys):
        """The settings `keys` as a plain dict, in that order."""
        return {key: self._values[key] for key in keys}

    def as_dict(self):
        return dict(self._values)

    def replace(self, **changes):
        """A copy with some settings changed."""
        return Config({**self._values, **changes}, self.given)


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise InputError(f"{message}; --help lists all options")


class _Loader(yaml.SafeLoader):
    """yaml.SafeLoader, for which a key that is there twice is an error: the first would be lost without a word."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep) for key, _ in node.value]
        for place, key in enumerate(keys):
            if key in keys[:place]:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is there twice",
                                                        node.value[place][0].start_mark)
        return super().construct_mapping(node, deep)


def load_yaml(path):
    """The documents of a YAML configuration file, as a list of dicts."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            documents = list(yaml.load_all(file, _Loader))
    except OSError as e:
        raise InputError(f"{path}: {e.strerror}; name a YAML file such as {DEFAULT_CONFIG.name}") from e
    except (yaml.YAMLError, UnicodeDecodeError) as e:
        raise InputError(f"{path}: not valid YAML ({' '.join(str(e).split())}); "
                         f"see {DEFAULT_CONFIG.name}") from e
    if not documents or not all(isinstance(document, dict) for document in documents):
        raise InputError(f"{path}: holds no 'key: value' lines; see {DEFAULT_CONFIG.name}")
    return documents


def _parse_bool(text):
    word = text.strip().lower()
    if word in ("true", "yes", "1"):
        return True
    if word in ("false", "no", "0"):
        return False
    raise ValueError("needs True or False")


def _parse_int(text):
    try:
        return int(text)
    except ValueError:
        raise ValueError("needs a whole number") from None


def _parse_float(text):
    try:
        value = float(text)
    except ValueError:
        raise ValueError("needs a number") from None
    if not math.isfinite(value):
        raise ValueError("needs a finite number")
    return value


def _parse_optional_float(text):
    return None if text.strip().lower() in ("", "none", "null") else _parse_float(text)


def _list_of(parse):
    return lambda text: [parse(word) for word in re.split(r"[,\s]+", text.strip().strip("[]()").strip()) if word]


_PARSERS = {"str": str, "bool": _parse_bool, "int": _parse_int, "float": _parse_float,
            "optional float": _parse_optional_float, "ints": _list_of(_parse_int), "floats": _list_of(_parse_float)}


def _split(accepted):
    """Type name and interval ("" for none) of an entry of the third document; choices are of type str."""
    if isinstance(accepted, list):
        return "str", ""
    name, _, interval = accepted.partition(" [") if " [" in accepted else accepted.partition(" (")
    return name, accepted[len(name):].strip()


def _convert(value, accepted):
    """A value from YAML or the command line as the type of its option; raises ValueError with what is needed."""
    name, _ = _split(accepted)
    if isinstance(value, str):
        return _PARSERS[name](value)
    if name == "optional float" and value is None:
        return None
    if name in ("float", "optional float") and isinstance(value, (int, float)) and not isinstance(value, bool):
        return _parse_float(value)
    if name == "floats" and isinstance(value, list) and all(type(v) in (int, float) for v in value):
        return [_parse_float(v) for v in value]
    if name == "ints" and isinstance(value, list) and all(type(v) is int for v in value):
        return value
    if type(value).__name__ == name:
        return value
    raise ValueError(f"must be of type {name}")


def _inside(value, interval):
    match = re.fullmatch(r"([\[(])\s*(\S+)\s*,\s*(\S+)\s*([\])])", interval)
    left, low, high, right = match.groups()
    low, high = float(low), float(high)
    return (value >= low if left == "[" else value > low) and (value <= high if right == "]" else value < high)


def _check_value(key, value, accepted):
    """Raises InputError unless `value` is one of the choices or lies in the interval."""
    if isinstance(accepted, list):
        if "FILE.py" in accepted and plugins.is_file(value):
            if not Path(value).is_file():
                raise InputError(f"--{key} {value}: no such file; name a Python file, or one of {', '.join(accepted[:-1])}")
        elif value not in accepted:
            raise InputError(f"--{key} {value}: must be one of {', '.join(map(str, accepted))}")
        return
    _, interval = _split(accepted)
    for number in value if isinstance(value, list) else [value]:
        if interval and number is not None and not _inside(number, interval):
            raise InputError(f"--{key} {number}: must lie in {interval}")


def _check_together(values):
    """Rules that join several options."""
    if not values["layers"]:
        raise InputError("--layers '': needs whole numbers such as 64,32,16")
    if len(set(values["seeds"])) < len(values["seeds"]):
        raise InputError(f"--seeds {values['seeds']}: names a seed twice; name each once")
    if values["weight_decay"] and values["lazy_adam"]:
        raise InputError(f"--weight_decay {values['weight_decay']}: decays all rows of the tables, lazy Adam touches only "
                         "those of a batch; add --lazy_adam False")
    if values["holdout"] == 1 and values["masked"]:
        raise InputError("--holdout 1: the masked dataset was decided on the validation items, which this would train on; "
                         "leave it out with --masked")
    if values["layers"][0] % 2:
        raise InputError(f"--layers {values['layers'][0]}: the first width must be even, "
                         "since it is the user half beside the item half")
    if values["batch_size"] < 1 + values["num_neg"]:
        raise InputError(f"--batch_size {values['batch_size']}: must be at least 1 + num_neg = {1 + values['num_neg']}, "
                         "one positive with its negatives")
    if 0 < values["max_ratings"] < values["min_ratings"]:
        raise InputError(f"--max_ratings {values['max_ratings']}: is below min_ratings {values['min_ratings']}, "
                         "so no user would be left; raise it, or set 0 for no limit")
    if values["warmup_epochs"] > values["train_epochs"]:
        raise InputError(f"--warmup_epochs {values['warmup_epochs']}: is more than train_epochs {values['train_epochs']}; "
                         "lower it")
    asked = values["recommend"] or values["explain_user"]
    if not asked and not values["eval_negatives"] and values["top_k"] > values["num_eval_neg"]:
        raise InputError(f"--top_k {values['top_k']}: is more than num_eval_neg {values['num_eval_neg']}, "
                         "so every item would be a hit; lower it")
    if _OWN_FILES.fullmatch(values["eval_file_name"]):
        raise InputError(f"--eval_file_name {values['eval_file_name']}: is the name of a file that holds other results; "
                         "choose another, such as eval.log")
    if not re.fullmatch(r"\w[\w.+-]*", values["eval_file_name"]):
        raise InputError(f"--eval_file_name {values['eval_file_name']!r}: must be a plain file name; "
                         "give the folder with --output_path")
    if not re.fullmatch(r"\w[\w.+-]*", values["dataset"]):
        raise InputError(f"--dataset {values['dataset']!r}: must be a plain name (letters, digits, '-', '_', '.'), "
                         "since it names a folder; give a file with --archive")


def load_config(arguments, description=""):
    """Reads the command line `arguments` (list of str) over the YAML defaults.

    Returns:
        Config with the effective settings.

    Raises:
        InputError: unknown option, wrong type or impossible value; the message names the option.
        SystemExit: after --help.
    """
    documents = load_yaml(DEFAULT_CONFIG)
    if len(documents) != 4 or set(documents[0]) != set(documents[2]) or set(documents[3]) != set(documents[2]["recipe"]):
        raise InputError(f"{DEFAULT_CONFIG}: needs four documents (values, help, types, recipes), with the same keys in the "
                         "first and the third, and a recipe for each choice of recipe; restore it")
    defaults, helps, accepted, recipes = documents
    arguments = _with_values(arguments, accepted)
    first = _Parser(add_help=False, allow_abbrev=False)
    first.add_argument("--config_path")
    first.add_argument("--recipe")
    path = first.parse_known_args(arguments)[0].config_path
    own = load_yaml(path)[0] if path else {}
    recipe = first.parse_known_args(arguments)[0].recipe or own.get("recipe", defaults["recipe"])
    _check_value("recipe", recipe, accepted["recipe"])
    values = {}
    for file, document in ((DEFAULT_CONFIG, {**defaults, **(recipes[recipe] or {})}), (path, own)):
        for key, value in document.items():
            if key not in accepted:
                raise InputError(f"{file}: unknown key {key!r}; {_suggestion(key, accepted)}")
            try:
                values[key] = _convert(value, accepted[key])
            except ValueError as e:
                raise InputError(f"{file}: {key} is {value!r}, but {e}") from None

    parser = _Parser(description=description, allow_abbrev=False,
                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config_path", metavar="FILE", help="YAML file whose values replace the defaults below")
    for key, default in values.items():
        allowed = accepted[key]
        allowed = f"one of {', '.join(map(str, allowed))}" if isinstance(allowed, list) else allowed
        shown = "none" if default in ("", None, []) else default
        text = f"{helps.get(key, '')} ({allowed}; default: {shown})".replace("%", "%%")
        # `--masked` alone means True; every other option takes one value
        extra = {"nargs": "?", "const": "True"} if accepted[key] == "bool" else {}
        parser.add_argument(f"--{key}", default=None, metavar=key.upper(), help=text, **extra)
    parsed, unknown = parser.parse_known_args(arguments)
    if unknown:
        raise InputError(f"unknown option {unknown[0]}; {_suggestion(unknown[0].lstrip('-').split('=')[0], accepted)}")

    given = {k: v for k, v in vars(parsed).items() if v is not None and k != "config_path"}
    for key, text in given.items():
        try:
            values[key] = _convert(text, accepted[key])
        except ValueError as e:
            raise InputError(f"--{key} {text!r}: {e}") from None
    for key, allowed in accepted.items():
        _check_value(key, values[key], allowed)
    _check_together(values)
    return Config(values, {*given, *own})


def _with_values(arguments, accepted):
    """The command line with values that begin with a hyphen, as ids may, joined to their options: --recommend=-X9."""
    joined, words = [], list(arguments)
    while words:
        word = words.pop(0)
        takes = word.startswith("--") and accepted.get(word[2:], "bool") != "bool"
        if takes and words and words[0].startswith("-") and words[0] not in ("-h", "--help") \
                and words[0].split("=")[0][2:] not in accepted:
            word = f"{word}={words.pop(0)}"
        joined.append(word)
    return joined


def _suggestion(key, known):
    close = difflib.get_close_matches(str(key), known, 1)
    return f"did you mean --{close[0]}?" if close else "--help lists all options"


if __name__ == "__main__":  # `python -m src.config KEY [--flag value ...]` prints one effective setting, for the scripts
    try:
        print(load_config(sys.argv[2:]).select([sys.argv[1]])[sys.argv[1]])
    except InputError as e:
        print(f"error: {e}", file=sys.stderr)
        sys.exit(2)
