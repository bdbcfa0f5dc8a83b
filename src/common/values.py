"""YAML files of options, and values as the types that options have."""
from __future__ import annotations

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
    """yaml.SafeLoader, but values are text, since 010 may be an id and not 8, and a key that is there twice is an error."""
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

    Raises InputError: it cannot be read, or holds something else than a dict.
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


_BOOLS = {**dict.fromkeys(("true", "yes", "on", "1"), True), **dict.fromkeys(("false", "no", "off", "0"), False)}


def _number(text, name):
    try:
        value = int(text) if name == "int" else float(text)
    except ValueError:
        raise ValueError("needs a whole number" if name == "int" else "needs a number") from None
    if not math.isfinite(value):
        raise ValueError("needs a finite number")
    return value


_KIND = re.compile(r"([a-z ]+?)(?: ([\[(])(\S+), (\S+)([\])]))?")  # such as "int [3, inf)": name, interval


def convert(value: object, kind: str | tuple[str, ...]) -> object:
    """A value, text or a list of texts, as the type of its option, see options.GROUPS; a ValueError says what is needed."""
    name = "str" if isinstance(kind, tuple) else _KIND.fullmatch(kind)[1]
    if name in ("ints", "floats", "pair") and isinstance(value, (str, list)):
        words = re.split(r"[,\s]+", value.strip().strip("[]()").strip()) if isinstance(value, str) else value
        if name != "pair":
            return [_number(str(word), name[:-1]) for word in words if word != ""]
        if value and (len(words) != 2 or None in words or "" in words):
            raise ValueError("needs two of them, such as 42 50")
        return [str(word) for word in words if value]
    if name == "optional float" and (value is None or str(value).strip().lower() in ("", "none", "null")):
        return None
    if not isinstance(value, str) or name in ("ints", "floats", "pair"):
        raise ValueError(f"must be of type {name}")
    if name == "bool":
        if (word := value.strip().lower()) not in _BOOLS:
            raise ValueError("needs True or False")
        return _BOOLS[word]
    if name == "str":
        return value.capitalize() if "False" in kind and value.capitalize() in ("True", "False") else value
    return _number(value, name.rsplit(" ", 1)[-1])


def check(key: str, value: object, kind: str | tuple[str, ...]) -> None:
    """Raises InputError unless the value of the option `key` is one of the choices or lies in the interval of its kind."""
    if isinstance(kind, tuple):
        if "FILE.py" in kind and plugins.is_file(value):
            if not Path(value).is_file():
                raise InputError(f"--{key} {value}: no such file; name a Python file, or one of {', '.join(kind[:-1])}")
        elif value not in kind:
            raise InputError(f"--{key} {value}: must be one of {', '.join(kind)}")
        return
    name, left, low, high, right = _KIND.fullmatch(kind).groups()
    for number in value if isinstance(value, list) else [value]:
        if left and number is not None and not (float(low) <= number <= float(high) and (left == "[" or number > float(low))
                                                and (right == "]" or number < float(high))):
            raise InputError(f"--{key} {number}: must lie in {kind[len(name) + 1:]}")


def described(kind: str | tuple[str, ...]) -> str:
    """A kind for people: the choices, or the type with its range."""
    if isinstance(kind, tuple):
        return ", ".join(kind)
    return re.sub(r"([\[(])(\S+), inf\)", lambda found: f"{'>=' if found[1] == '[' else '>'}{found[2]}", kind)
