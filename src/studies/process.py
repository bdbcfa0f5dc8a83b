"""A function of this program in a process of its own, whatever the current folder is."""
import importlib
import json
import subprocess
import sys
from pathlib import Path

from ..common.errors import InputError
from ..config import Config

ROOT = Path(__file__).resolve().parents[2]
_CODE = "import sys; sys.path.insert(0, sys.argv[1]); from src.studies.process import answer; answer()"


def ask(module, function, config, *arguments):
    """What `function(config, *arguments)` of a module returns in a fresh interpreter, which prints its errors.

    Both are named; arguments and answer are what JSON can hold. Raises subprocess.CalledProcessError if it fails.
    """
    asked = json.dumps([module, function, config.as_dict(), sorted(config.given), arguments])
    process = subprocess.run([sys.executable, "-c", _CODE, ROOT, asked], stdout=subprocess.PIPE, stderr=sys.stderr,
                             text=True, check=True)
    return json.loads(process.stdout.splitlines()[-1])


def answer():
    """What the interpreter does that `ask` starts."""
    module, function, values, given, arguments = json.loads(sys.argv[2])
    try:
        found = getattr(importlib.import_module(module), function)(Config(values, given), *arguments)
    except (InputError, FloatingPointError, MemoryError) as error:
        sys.exit(f"error: {error}")
    print(json.dumps(found))
