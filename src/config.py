"""The effective settings: the command line over a YAML file over recipes over default_config.yaml, all checked."""
from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from .common import plugins
from .common.errors import InputError
from .common.values import check, convert, described, load_yaml, read_comments
from .constants import MODELS
from .options import KINDS, PROGRAMS, REMOVED, check_program, check_together, options_in, options_of, study_of

_FOLDER = Path(__file__).resolve().parent
DEFAULT_CONFIG = (_FOLDER.parent if _FOLDER.name == "src" else _FOLDER) / "default_config.yaml"  # in a checkout, installed
RECIPES = "recipes"  # key of the YAML file
_OF_THE_LINE = "help", "config_path", "flags_of"  # of the command line alone; the last: keys of PROGRAMS that all get it
_VALUE = "\0"  # before a word that begins with one hyphen, as ids may, so that it is no option


class Config:
    """Settings as attributes: `config.batch_size`.

    values: dict of all settings.
    sources: by what those were set that have no default: "line", "file" (of the user's own), or a given "recipe"; of the
        first two `given` has the names.
    """

    def __init__(self, values: dict, sources: dict[str, str] | None = None):
        self.__dict__.update(values)
        self._values, self.sources = dict(values), dict(sources or {})
        self.given = frozenset(key for key, source in self.sources.items() if source != "recipe")

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
        return {key: value for key, value in self.select(*groups).items() if key in self.sources}

    def by_line(self) -> Config:
        """The same settings, of which only those count as given that stand on the command line."""
        kept = ("line", "recipe") if self.sources.get("recipe") == "line" else ("line",)
        return Config(self._values, {key: source for key, source in self.sources.items() if source in kept})

    def as_dict(self) -> dict:
        return dict(self._values)

    def replace(self, **changes: object) -> Config:
        return Config({**self._values, **changes}, self.sources)


def shipped() -> tuple[dict, dict]:
    """Default values and recipes: the dicts of default_config.yaml; InputError if it is damaged."""
    values = load_yaml(DEFAULT_CONFIG, DEFAULT_CONFIG.name)
    recipes = values.pop(RECIPES, None)
    if set(values) != set(KINDS) or not isinstance(recipes, dict) or values["recipe"] not in recipes:
        odd = sorted(set(map(str, values)) ^ set(KINDS))[:1] or [RECIPES]
        raise InputError(f"{DEFAULT_CONFIG}: needs each option once and the recipes, but {odd[0]} is missing or unknown; "
                         "restore it")
    return _typed(values, KINDS, f"{DEFAULT_CONFIG}: "), _typed_recipes(DEFAULT_CONFIG, recipes)


def load_config(arguments: list[str], description: str = "", program: str = "",
                own: dict[str, tuple[str, object, str]] | None = None) -> Config:
    """Reads the command line `arguments` (list of str) over the YAML defaults.

    program: key of PROGRAMS, whose options alone may be on the command line; "" for any.
    own: by name kind, default and help of the options that this program has beside them.
    Raises InputError: unknown option, wrong type or impossible value, or one that does nothing here; the message names it.
    Raises SystemExit: after --help.
    """
    own = own or {}
    kinds = {**KINDS, **{key: kind for key, (kind, _, _) in own.items()}}
    defaults, recipes = shipped()
    line = _read_line(arguments, kinds)
    asked, path, flags_of = (line.pop(key, "") for key in _OF_THE_LINE)
    programs = flags_of.split(",") if flags_of else []
    line = {key: text for key, text in line.items() if study_of(key) in (None, program) or study_of(key) not in programs}
    file = load_yaml(path, DEFAULT_CONFIG.name) if path else {}
    recipes = {**recipes, **_typed_recipes(path, file.pop(RECIPES, None) or {})}
    file = _typed({key: value for key, value in file.items() if key in kinds or study_of(str(key)) in (None, program)},
                  kinds, f"{path}: ")
    defaults.update({key: default for key, (_, default, _) in own.items()})
    of_recipe = _whole(line.get("recipe", file.get("recipe", defaults["recipe"])), recipes)
    values = {**defaults, **of_recipe, **file}
    if asked:
        print(_help(description, None if asked == "all" or program not in PROGRAMS else program, values, recipes, own))
        sys.exit(0)
    given = _typed(line, kinds)
    values.update(given)
    chosen = {*given, *file}
    if "batch_size" in chosen and "min_steps" not in chosen:
        values["min_steps"] = 0  # a size of one's own is kept
    for key, kind in kinds.items():
        if gone := _gone(f"--{key} {values[key]}", f"{key} {values[key]}"):
            raise InputError(gone)
        check(key, values[key], kind)
    check_program(program, programs, values, {*given} - {*own})
    check_together(values, chosen)
    by_recipe = dict.fromkeys(of_recipe if "recipe" in chosen else (), "recipe")
    return Config(values, {**by_recipe, **dict.fromkeys(file, "file"), **dict.fromkeys(given, "line")})


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:
        raise InputError(f"{message.replace(_VALUE, '')}; --help lists all options")


def _read_line(arguments, kinds):
    """By option, or what looks like one, the text that follows it on a command line, of a pair a list."""
    parser = _Parser(add_help=False, allow_abbrev=False, argument_default=argparse.SUPPRESS)
    named = {word[2:].partition("=")[0] for word in arguments if re.match(r"--\w", word)}
    for key in {*named, *kinds, *_OF_THE_LINE}:
        kind = kinds.get(key, "str" if key in _OF_THE_LINE[1:] else "bool")
        number = {"bool": {"nargs": "?", "const": "True"}, "pair": {"nargs": "+"}}.get(kind, {})
        parser.add_argument(f"--{key}", *["-h"] * (key == "help"), dest=key, type=lambda word: word.lstrip(_VALUE), **number)
    return vars(parser.parse_args([re.sub(r"^-(?!-|h$)", f"{_VALUE}-", word) for word in arguments]))


def _whole(name, recipes, seen=()):
    """The options of a recipe, those of the recipe that it goes on from (its own `recipe`) among them."""
    check("recipe", name, tuple(recipes))
    if name in seen:
        raise InputError(f"recipe {name}: goes on from itself ({' -> '.join((*seen, name))}); give it a name of its own")
    options = dict(recipes[name])
    base = options.pop("recipe", None)
    return {**(_whole(base, recipes, (*seen, name)) if base else {}), **options}


def _typed_recipes(file, recipes):
    if not isinstance(recipes, dict) or not all(isinstance(chosen, (dict, type(None))) for chosen in recipes.values()):
        raise InputError(f"{file}: {RECIPES} must hold names with options below them; see {DEFAULT_CONFIG.name}")
    return {str(name): _typed(chosen or {}, KINDS, f"{file}: ") for name, chosen in recipes.items()}


def _typed(values, kinds, where="--"):
    """Values as the types of their options; messages name an option by `where` it stands."""
    typed = {}
    for key, value in values.items():
        if key not in kinds:
            raise InputError(_gone(f"{where}{key}", key) or f"{where}{key}: {unknown(str(key), kinds)}")
        try:
            typed[key] = convert(value, kinds[key])
        except ValueError as e:
            raise InputError(f"{where}{key} {value!r}: {e}") from None
    return typed


def unknown(key: str, kinds: Iterable[str]) -> str:
    """What is wrong with an option that is none of `kinds`."""
    study, close = study_of(key), difflib.get_close_matches(key, kinds, 1)
    if study and study not in map(study_of, kinds):
        return f"does nothing here; it is an option of {PROGRAMS[study][0]}"
    return "unknown option; " + (f"did you mean --{close[0]}?" if close else "--help all lists all options")


def _gone(said, key):
    """What to say of a key of REMOVED, called `said`; None of any other."""
    return f"{said}: is no more; {REMOVED[key]}" if key in REMOVED else None


def _described(values, recipes):
    """By section what there is to say of its options: name, what it accepts, default as text ("" for none), help."""
    for title, helps in read_comments(DEFAULT_CONFIG).items():
        yield title, [(key, described(tuple(recipes) if key == "recipe" else KINDS[key]),
                       "" if values[key] in ("", None, []) else str(values[key]), text)
                      for key, text in helps.items() if key != RECIPES]


def _help(description, program, values, recipes, own):
    """The options of a program with the first thing to say of each; of None those of all, with all that there is."""
    parser = argparse.ArgumentParser(
        usage=argparse.SUPPRESS, add_help=False, formatter_class=lambda prog: argparse.HelpFormatter(prog, 2, 8),
        description=f"{description} Give --option value ...; --help all: the options of all programs, see docs/options.md")
    parser.add_argument("--config_path", action="store_true", help="YAML file whose values replace the defaults below")
    taken = {*(options_in(program, shown=True) if program else KINDS), *own}
    sections = [*_described(values, recipes),
                ("Of this program", [(key, kind, str(values[key]), text) for key, (kind, _, text) in own.items()])]
    for title, options in sections:
        group = parser.add_argument_group(title)
        for key, kind, default, text in [option for option in options if option[0] in taken]:
            if program is None:
                text += f" ({kind}; default: {default or 'none'})"
            else:
                said = [kind] if key == "recipe" or isinstance(KINDS.get(key), tuple) else []
                said += [f"default: {default}"] if default not in ("", "False") else []
                text = re.split(r"; |(?<!e\.g)\. ", text)[0] + (f" ({'; '.join(said)})" if said else "")
            group.add_argument(f"--{key}", action="store_true", help=text.replace("%", "%%"))
    return parser.format_help()


def options_table() -> str:
    """docs/options.md as text: every option with its default, what it accepts and its help, section by section."""
    values, recipes = shipped()
    lines = ["# Options", "", "Made by `python -m src.config` from `default_config.yaml` and `src/options.py`. Set them on "
             "the command line (`--batch_size 1024`, `--masked`) or in a YAML file of yours (`--config_path FILE`)."]
    for title, options in _described(values, recipes):
        if options:
            lines += ["", f"## {title}", "", "option | default, accepted | meaning", "---|---|---"]
        lines += [f"`{key}` | {' '.join(filter(None, (default and f'`{default}`', kind.replace('str', ''))))} | {text}"
                  for key, kind, default, text in options]
    lines += ["", "## Recipes", "", read_comments(DEFAULT_CONFIG)[RECIPES.capitalize()][RECIPES], "",
              "recipe | options", "---|---"]
    lines += [f"`{name}` | {', '.join(f'`{k} {v}`' for k, v in (chosen or {}).items()) or 'the defaults'}"
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
