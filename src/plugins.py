"""Strategies and solvers of one's own: a Python file, named where a built-in one would be. See docs/CONTRIBUTING.md."""
import hashlib
import importlib.util
from pathlib import Path

from .errors import InputError


def is_file(name):
    """Whether the value of --strategy or --solver names a file."""
    return name.endswith(".py")


def label(name):
    """A name for tables and file names."""
    return Path(name).stem if is_file(name) else name


def file_label(name):
    """The label as part of a file name, short enough for any file system."""
    own = label(name)
    return own if len(own) <= 60 else f"{own[:40]}-{hashlib.sha256(own.encode('utf-8', 'surrogateescape')).hexdigest()[:12]}"


def plugin_files(*names):
    """Of the values of such options the files, as inputs of a stage."""
    return [Path(name) for name in names if is_file(name)]


def check_labels(names, option, built_in):
    """Raises InputError if two of the names, or a file and what is built in, would stand under one label."""
    labels = [label(name) for name in names]
    for name, own in zip(names, labels):
        if labels.count(own) > 1 or is_file(name) and own in built_in:
            raise InputError(f"--{option} {','.join(names)}: {own!r} would stand for two of them; rename the file, or name "
                             "each once")


def load(path, option, needed):
    """The module in a file.

    Args:
        path: of the file.
        option: that named it, for messages.
        needed: what it must define.

    Raises:
        InputError: it is not there, cannot be run, or lacks `needed`.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"--{option} {path}: no such file; name a Python file that defines {needed}")
    spec = importlib.util.spec_from_file_location(f"ifrqe_plugin_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as e:  # whatever the file does
        raise InputError(f"--{option} {path}: cannot be run ({type(e).__name__}: {e}); correct it") from e
    if not callable(getattr(module, needed, None)):
        raise InputError(f"--{option} {path}: does not define {needed}; see docs/CONTRIBUTING.md")
    return module
