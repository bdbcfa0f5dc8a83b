"""Running on Huawei Cloud ModelArts: inputs come from object storage, results go back to it.

Needs the package `moxing`, which ModelArts provides; it is imported only here.
"""
import contextlib
from collections.abc import Iterator
from pathlib import Path

from .common.errors import InputError, logger
from .config import Config


@contextlib.contextmanager
def session(config: Config) -> Iterator[None]:
    """Fetches data_url before a stage; sends data, results and checkpoints to train_url after it.

    Results and checkpoints of an earlier job under the same train_url are fetched too, so that stages may run as separate
    jobs with data_url = train_url/data; any other data_url is only read. What the stage has changed is sent, and what it
    has removed is removed under train_url, even when it fails; what another job has written there meanwhile stays.
    Raises InputError: moxing is not installed, or a copy failed.
    """
    try:
        from moxing import file as files
    except ImportError:
        raise InputError("--enable_modelarts: the package moxing is not installed; "
                         "it exists on ModelArts only, leave the option out elsewhere") from None

    sent = {folder: f"{config.train_url.rstrip('/')}/{Path(folder).resolve().name}"
            for folder in (config.output_path, config.checkpoint_path, config.data_path)
            if config.train_url and not config.node_rank}  # of several hosts the first has the results
    fetched = {}  # by address, of each file: when it was written there, and its state here

    def fetch(option, url, folder):
        with _copying(option, url, folder):
            there = _written(files, url) if url in sent.values() else {}
            files.copy_parallel(url, folder)
        here = _states(folder)
        fetched[url] = {name: (when, here[name]) for name, when in there.items() if name in here}
    if config.data_url:
        fetch("data_url", config.data_url.rstrip("/"), config.data_path)
    for folder, url in sent.items():
        if folder != config.data_path and files.exists(url):
            fetch("train_url", url, folder)
    try:
        yield
    finally:
        for folder, url in sent.items():
            here, known = _states(folder), fetched.get(url, {})
            with _copying("train_url", folder, url):
                for name, state in here.items():
                    if name not in known or known[name][1] != state:
                        files.copy(f"{folder}/{name}", f"{url}/{name}")
                gone = known.keys() - here.keys()
                for name, when in _written(files, url).items() if gone else ():
                    if name in gone and when == known[name][0]:
                        files.remove(f"{url}/{name}")


@contextlib.contextmanager
def _copying(option, source, target):
    logger.info("ModelArts: copying %s to %s", source, target)
    try:
        yield
    except Exception as e:  # moxing raises what its storage backend raises
        raise InputError(f"--{option}: copying {source} to {target} failed ({e}); "
                         "check the address and the permissions of the job") from e


def _written(files, url):
    """When each file under an address was written, by its name from there on."""
    names = files.list_directory(url, recursive=True) if files.exists(url) else []
    return {name: files.stat(f"{url}/{name}").mtime_nsec for name in names if not files.is_directory(f"{url}/{name}")}


def _states(folder):
    """What changes with the content of each file of a folder, by its name from there on; locks are this machine's."""
    return {path.relative_to(folder).as_posix(): (path.stat().st_mtime_ns, path.stat().st_size)
            for path in Path(folder).rglob("*") if path.is_file() and not path.name.endswith(".lock")}
