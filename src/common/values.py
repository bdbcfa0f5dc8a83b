"""YAML files of options, and values as the types that options have."""
from __future__ import annotations

import json
import math
import re
from pathlib import Path

import yaml

from . import plugins
from .errors import InputError

_MERGE = "tag:yaml.org,2002:merge"
_RESOLVED = {sign: [(tag, form) for tag, form in known if tag in (_MERGE, "tag:yaml.org,2002:null")]
             for sign, known in yaml.SafeLoader.yaml_implicit_resolvers.items()}


class _Loader(yaml.SafeLoader):
    """yaml.SafeLoader, but values are the text that stands there: 010 may be an id, which YAML 1.1 takes for the number 8.

    A key that is there twice is an error: the first would be lost without a word.
    """
    yaml_implicit_resolvers = _RESOLVED

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [self.construct_object(key, deep) for key, _ in node.value if key.tag != _MERGE]
        for place, key in enumerate(keys):
            if key in keys[:place]:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is there twice",
                                                        node.value[place][0].start_mark)
        return super().construct_mapping(node, deep)


def load_yaml(path: str | Path, example: str) -> dict:
    """The first document of a YAML file; messages name the file `example` as one that shows what it should look like.

    Raises:
        InputError: it cannot be read, or holds something else than a dict.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            document = next(iter(yaml.load_all(file, _Loader)), None)
    except OSError as e:
        raise InputError(f"{path}: {e.strerror}; name a YAML file such as {example}") from e
    except (yaml.YAMLError, UnicodeDecodeError) as e:
        raise InputError(f"{path}: not valid YAML ({' '.join(str(e).split())}); see {example}") from e
    if not isinstance(document, dict):
        raise InputError(f"{path}: holds no 'key: value' lines; see {example}")
    return document


def read_comments(path: str | Path) -> dict[str, dict[str, str]]:
    """By title of a section of a YAML file (`# ==== X ====`), then by key, the comment right above the key, on one line."""
    sections, comment = {"": {}}, []
    for line in Path(path).read_text(encoding="utf-8-sig").splitlines():
        if title := re.fullmatch(r"# ==== (.*) ====", line):
            sections[title[1]] = {}
        elif line.startswith("# "):
            comment.append(line[2:])
            continue
        elif key := re.match(r"(\w+):", line):
            sections[list(sections)[-1]][key[1]] = " ".join(comment)
        comment = []
    return sections


def _parse_bool(text):
    word = text.strip().lower()
    if word not in ("true", "yes", "on", "1", "false", "no", "off", "0"):
        raise ValueError("needs True or False")
    return word in ("true", "yes", "on", "1")


def _parse(text, number, what):
    try:
        return number(text)
    except ValueError:
        raise ValueError(f"needs {what}") from None


def _parse_int(text):
    return _parse(text, int, "a whole number")


def _parse_float(text):
    value = _parse(text, float, "a number")
    if not math.isfinite(value):
        raise ValueError("needs a finite number")
    return value


def _parse_optional_float(text):
    return None if text.strip().lower() in ("", "none", "null") else _parse_float(text)


def _list_of(parse):
    return lambda text: [parse(word) for word in re.split(r"[,\s]+", text.strip().strip("[]()").strip()) if word]


def _parse_pair(text):
    try:
        pair = json.loads(text) if text else []
    except ValueError:
        pair = text.split()
    return _pair(pair)


def _pair(values):
    if not isinstance(values, list) or len(values) not in (0, 2) or None in values or "" in values:
        raise ValueError("needs two of them, such as 42 50")
    return [str(value) for value in values]


_PARSERS = {"str": str, "bool": _parse_bool, "int": _parse_int, "float": _parse_float,
            "optional float": _parse_optional_float, "ints": _list_of(_parse_int), "floats": _list_of(_parse_float),
            "pair": _parse_pair}


def _split(kind):
    """Type name and interval ("" for none) of a kind such as "int [3, inf)"; choices are of type str."""
    if isinstance(kind, tuple):
        return "str", ""
    name = re.split(r" (?=[\[(])", kind)[0]
    return name, kind[len(name):].strip()


def convert(value: object, kind: str | tuple[str, ...]) -> object:
    """A value, as text or as a list of texts, as the type of its option; see options.GROUPS.

    Raises:
        ValueError: says what is needed.
    """
    name, _ = _split(kind)
    if isinstance(kind, tuple) and str(value).capitalize() in ("True", "False") and "False" in kind:
        return str(value).capitalize()
    if value is None and name == "optional float":
        return None
    if isinstance(value, list):
        if name == "pair":
            return _pair(value)
        value = ",".join(map(str, value)) if name in ("ints", "floats") else value
    if isinstance(value, str):
        return _PARSERS[name](value)
    raise ValueError(f"must be of type {name}")


def _inside(value, interval):
    left, low, high, right = re.fullmatch(r"([\[(])\s*(\S+)\s*,\s*(\S+)\s*([\])])", interval).groups()
    low, high = float(low), float(high)
    return (value >= low if left == "[" else value > low) and (value <= high if right == "]" else value < high)


def check(key: str, value: object, kind: str | tuple[str, ...]) -> None:
    """Raises InputError unless the value of the option `key` is one of the choices or lies in the interval of its kind."""
    if isinstance(kind, tuple):
        if "FILE.py" in kind and plugins.is_file(value):
            if not Path(value).is_file():
                raise InputError(f"--{key} {value}: no such file; name a Python file, or one of {', '.join(kind[:-1])}")
        elif value not in kind:
            raise InputError(f"--{key} {value}: must be one of {', '.join(kind)}")
        return
    _, interval = _split(kind)
    for number in value if isinstance(value, list) else [value]:
        if interval and number is not None and not _inside(number, interval):
            raise InputError(f"--{key} {number}: must lie in {interval}")


def described(kind: str | tuple[str, ...]) -> str:
    """A kind for people."""
    return f"one of {', '.join(kind)}" if isinstance(kind, tuple) else kind
