"""Requests as they are carried out: what one means, and its line in the record. Allowing again is no more than that line."""
import time

import numpy as np

from ..common.files import digest
from ..common.terminal import counted, logger
from ..common.together import Together
from ..common.variant import record_of
from ..config import Config
from ..consent.withdrawn import ALLOWS, head_of, read_request, read_requests, with_request, withdrawn_path
from ..constants import DATASET_FILE, WITHDRAWN_FILE
from ..sources.catalogue import original_id
from ..sources.interactions import read_interactions


class Request:
    """A request as it is carried out.

    earlier: the requests before it; number: its own, from 1; said: what the record of requests is to say of it.
    whole: all Interactions of the dataset; meant: (n,) bool, what of them is taken back, or with `allows` allowed again.
    """

    def __init__(self, config: Config, allows: bool = False):
        self.earlier, self.whole = read_requests(config), read_interactions(config)
        self.number, (self.meant, rules) = len(self.earlier) + 1, read_request(config, self.whole, self.earlier, allows)
        self.said = {"time": time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime()), "models": [], "rules": rules,
                     "file_sha256": digest(config.allow or config.withdraw), **({ALLOWS: True} if allows else {})}

    def takes(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        """(k,) bool, which of these pairs are taken back."""
        place = self.whole.places(user, item)
        return (place >= 0) & self.meant[place]

    def say_pairs(self, known: np.ndarray) -> None:
        """Says by original ids what is meant, apart what is `known`, (n,) bool: what a model trains on or had held out."""
        for key, among in (("interactions", self.meant & known), ("forbidden", self.meant & ~known)):
            pairs = zip(self.whole.user[among], self.whole.item[among])
            self.said[key] = [[original_id(self.whole.user_ids, user), original_id(self.whole.item_ids, item)]
                              for user, item in pairs]

    def add_to(self, files: Together, config: Config) -> dict:
        """Writes the record with this request after the others; returns what dataset.json and checkpoints say of it then."""
        line, requests = with_request(self.said, self.earlier)
        head, path = head_of(requests), withdrawn_path(config)
        with files.write(files.DATA, WITHDRAWN_FILE) as temporary:
            lines = path.read_bytes() if path.exists() else b""
            temporary.write_bytes(lines + b"\n" * (lines[-1:] not in (b"", b"\n")) + line.encode() + b"\n")
        if made := record_of(path.parent):
            files.write_json(files.DATA, DATASET_FILE, {**made, **head})
        return head


def allow(config: Config) -> None:
    """Carries out the request in the file `allow`: it is added to the record, and nothing else changes.

    Raises InputError: the request is missing or unfit; nothing has changed then.
    """
    request = Request(config, allows=True)
    request.say_pairs(request.meant)
    request.said.update(before={}, after={})
    with Together(config) as files:
        request.add_to(files, config)
    logger.info("request %d: %s may be disclosed again, but for what is vetoed; masks and models stay without them until "
                "they are made anew (train.py, preprocess.py, train.py --masked); the record is %s", request.number,
                counted(int(request.meant.sum()), "interaction"), withdrawn_path(config))
