"""Locks on folders: of two runs that would write into one, the second is refused.

A lock is an flock on a hidden file. It ends with its process, however that ends, so none is ever stale.
"""
import contextlib
import errno
import fcntl
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from ..config import Config
from ..constants import STUDY_SEEDS
from ..options import PROGRAMS, STUDIES
from .errors import InputError, logger
from .variant import CHECKPOINT, DATA, DECISIONS, MASKED, OUTPUT, dataset_folder, folders_of

_held = {}  # lock file: the open file that holds the lock

USES = {  # of a program the folders that it writes, and those that it only reads; of others see _uses
    "run_download_dataset": ((OUTPUT,), (DATA,)),
    "run_train": ((OUTPUT, CHECKPOINT), (DATA, MASKED, DECISIONS)),
    "run_preprocess": ((OUTPUT, CHECKPOINT, MASKED), (DATA,)),
    "run_eval": ((OUTPUT,), (CHECKPOINT, DATA, MASKED, DECISIONS)),
    "run_withdrawal": ((OUTPUT,), (DATA, MASKED)),
    "run_scaling": ((OUTPUT,), ()),
    "run_benchmark": ((OUTPUT,), (DATA,)),
    "withdraw": ((OUTPUT, CHECKPOINT, DATA, MASKED, DECISIONS), ()),
}


def _uses(program, config):
    """What a program writes, and what it only reads; the masked twin only where it is asked for."""
    name = "withdraw" if program == "run_train" and (config.withdraw or config.allow) else program
    writes, reads = USES.get(name, ((OUTPUT, CHECKPOINT), (DATA,)) if program in PROGRAMS else ((), ()))
    return writes, reads if config.masked else [folder for folder in reads if folder != MASKED]


@contextlib.contextmanager
def locked(program: str, config: Config) -> Iterator[None]:
    """While it lasts, no other run can write what `program` writes or reads with these settings.

    Raises InputError: another run does so; the message names the folder, and that run's host, process and program.
    """
    asks = {"run_eval": config.recommend or config.explain_user or config.why or config.verify_receipt,
            "run_preprocess": config.newcomers}.get(program)
    if asks:  # who only asks, reads whole files and writes none
        yield
        return
    writes, reads = _uses(program, config)
    exclusive = {}  # by lock file
    for name in (*reads, *writes):
        for path in _lock_files(name, config, program):
            exclusive[Path(os.path.realpath(path))] = name in writes
    with contextlib.ExitStack() as stack:
        for path, alone in exclusive.items():
            if file := _take(path, alone, program):
                stack.callback(_release, file, path)
        yield


def claim(config: Config) -> None:
    """Before the data stage writes a dataset that it has only read: no other run may read it now; InputError if one does."""
    path = Path(os.path.realpath(_lock_files(DATA, config, None)[0]))
    if path in _held:
        try:
            fcntl.flock(_held[path], fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{dataset_folder(config)}: is to be made anew, but another run reads it; wait for that "
                             "run, or give this one a --data_path of its own") from None
        except OSError:  # a file system without locks, which has been said
            pass


def _lock_files(name, config, program):
    folder = folders_of(config)[name]
    if name in (DATA, MASKED):
        folder = Path(os.path.realpath(folder))  # several data_paths may link to one
        return [folder.with_name(f".{folder.name}.lock")]
    seeds = config.seeds if name in (OUTPUT, CHECKPOINT) else []
    if name == CHECKPOINT and program[len("run_"):] in STUDIES and not seeds:
        seeds = range(config.seed, config.seed + STUDY_SEEDS)
    return [folder / ".lock", *(folder / f"seed_{seed}" / ".lock" for seed in seeds)]


def _take(path, exclusive, program):
    """The lock file, open and locked; None where it cannot be written or locked."""
    mode = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
    while True:
        try:
            if exclusive or program == "run_download_dataset":  # which may make the folder
                path.parent.mkdir(parents=True, exist_ok=True)
            file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+", errors="replace")
        except OSError:  # who cannot write there will be told by what is to be written; who only reads need not
            return None
        try:
            fcntl.flock(file, mode | fcntl.LOCK_NB)
            if os.path.exists(path) and os.path.samestat(os.stat(path), os.fstat(file.fileno())):
                break
            file.close()  # the run that had it has removed it meanwhile
        except OSError as e:
            holder = file.read(200).strip() or "unknown"
            file.close()
            if e.errno in (errno.EAGAIN, errno.EACCES):
                raise InputError(f"{path.parent}: is in use by another run ({holder}); wait for it, or give this run "
                                 "folders of its own (--output_path, --checkpoint_path, --data_path)") from None
            logger.warning("%s: this file system has no locks (%s); let no other run use the folder", path.parent,
                           e.strerror)
            return None
    with contextlib.suppress(OSError):  # a full disk is no reason to stop here
        file.truncate(0)
        file.write(f"host {platform.node()}, process {os.getpid()}, {program}")
        file.flush()
    _held[path] = file
    return file


def _release(file, path):
    _held.pop(path, None)
    with contextlib.suppress(OSError), file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails as long as others hold it as well
        os.unlink(path)
