"""A function in a process of its own, whatever this program's package is called and the current folder is."""
import sys

# nothing is imported before the path is that of the caller: a file in the current folder could stand in for it
_CODE = ("import sys; sys.path[:] = sys.argv[1].split('\\n'); from importlib import import_module; "
         "getattr(import_module(sys.argv[2]), sys.argv[3])(*sys.argv[4:])")


def command(module: str, function: str, *arguments: object) -> list[str]:
    """The command that calls a function of a module with `arguments`, which it gets as str, in a fresh interpreter."""
    return [sys.executable, "-c", _CODE, "\n".join(map(str, sys.path)), module, function, *map(str, arguments)]
