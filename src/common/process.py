"""A function of this program in a process of its own, whatever its package is called and the current folder is."""
from __future__ import annotations

import importlib
import json
import subprocess
import sys

from ..config import Config
from .errors import InputError

# nothing is imported before the path is that of the caller: a file in the current folder could stand in for it
_CODE = ("import sys; sys.path[:] = sys.argv[1].split('\\n'); from importlib import import_module; "
         "getattr(import_module(sys.argv[2]), sys.argv[3])(*sys.argv[4:])")


def command(module: str, function: str, *arguments: object) -> list[str]:
    """The command that calls a function of a module with `arguments`, which it gets as str, in a fresh interpreter."""
    return [sys.executable, "-c", _CODE, "\n".join(map(str, sys.path)), module, function, *map(str, arguments)]


def ask(module: str, function: str, config: Config, *arguments: object) -> object:
    """What `function(config, *arguments)` of a module returns in a fresh interpreter, which prints its errors.

    Arguments and answer are what JSON can hold.

    Raises:
        subprocess.CalledProcessError: it fails.
    """
    asked = json.dumps([module, function, config.as_dict(), config.sources, arguments])
    process = subprocess.run(command(__name__, "answer", asked), stdout=subprocess.PIPE, stderr=sys.stderr, text=True,
                             check=True)
    return json.loads(process.stdout.splitlines()[-1])


def answer(asked: str) -> None:
    """What the interpreter does that `ask` starts."""
    module, function, values, sources, arguments = json.loads(asked)
    try:
        found = getattr(importlib.import_module(module), function)(Config(values, sources), *arguments)
    except (InputError, FloatingPointError, MemoryError) as error:
        sys.exit(f"error: {error}")
    print(json.dumps(found))
