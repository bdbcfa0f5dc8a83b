"""Running on Huawei Cloud ModelArts: inputs come from object storage, results go back to it.

Needs the package `moxing`, which ModelArts provides; it is imported only here.
"""
from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

from .common.errors import InputError
from .config import Config

logger = logging.getLogger("ifrqe")


@contextlib.contextmanager
def session(config: Config) -> Iterator[None]:
    """Fetches data_url before a stage; sends data, results and checkpoints to train_url after it.

    Results and checkpoints of an earlier job under the same train_url are fetched too, so that stages may run as separate
    jobs with data_url = train_url/data. Results are sent even when the stage fails, so that its log is not lost.

    Raises:
        InputError: moxing is not installed, or a copy failed.
    """
    try:
        import moxing
    except ImportError:
        raise InputError("--enable_modelarts: the package moxing is not installed; "
                         "it exists on ModelArts only, leave the option out elsewhere") from None

    def copy(option, source, target):
        logger.info("ModelArts: copying %s to %s", source, target)
        try:
            moxing.file.copy_parallel(str(source), str(target))
        except Exception as e:  # moxing raises what its storage backend raises
            raise InputError(f"--{option}: copying {source} to {target} failed ({e}); "
                             "check the address and the permissions of the job") from e
    sent = {folder: f"{config.train_url.rstrip('/')}/{Path(folder).resolve().name}"
            for folder in (config.output_path, config.checkpoint_path, config.data_path) if config.train_url}
    if config.data_url:
        copy("data_url", config.data_url, config.data_path)
    for folder, url in sent.items():
        if folder != config.data_path and moxing.file.exists(url):
            copy("train_url", url, folder)
    try:
        yield
    finally:
        for folder, url in sent.items():
            if Path(folder).exists():
                copy("train_url", folder, url)
