"""What may be used of a dataset: all but what is vetoed or withdrawn, and what takes no part for want of the rest."""
from __future__ import annotations

import base64
import dataclasses
import zlib
from dataclasses import dataclass

import numpy as np

from ..common.errors import InputError
from ..common.variant import dataset_folder
from ..common.wording import counted
from ..config import Config
from ..sources.interactions import Interactions
from .unwillingness import stated
from .withdrawn import taken_back, taken_since

# why an interaction takes no part, in Dropped.why; above 0 it is the number of the request that took it back
VETO, TOO_FEW, WAITS = -1, -2, -3


@dataclass
class Dropped:
    """Interactions that take no part: nothing is trained, decided or evaluated with them.

    They are only left out of what is drawn or offered, since their users have had these items.

    user, item: (k,) int32, by user and in order of time within a user.
    rows: (k,) int64, rows of ratings.csv.
    why: (k,) int32: VETO; TOO_FEW: so little of the user's may be used that nothing could be held out; WAITS: held out of a
        user who has withdrawn the other held-out one since the last training; or the number of the request, from 1.
    before: (k,) int64, how many interactions of the history, of all users, come before each.
    line: (k,) int32, the line of the rule that meets each, where vetoes were asked for, see unwillingness.stated; else 0.
    """
    user: np.ndarray
    item: np.ndarray
    rows: np.ndarray
    why: np.ndarray
    before: np.ndarray
    line: np.ndarray

    def of(self, chosen: np.ndarray) -> Dropped:
        """Some of them, an index or (k,) bool."""
        return Dropped(*(getattr(self, field.name)[chosen] for field in dataclasses.fields(self)))

    def summary(self) -> str:
        """How many they are and why, in words."""
        why = self.why
        return f"{counted(len(why), 'interaction')} take no part: {(why == VETO).sum():,} vetoed, {(why > 0).sum():,} " \
            f"withdrawn, {(why < VETO).sum():,} of users of whom too little is left"


NONE_DROPPED = Dropped(*(np.zeros(0, kind) for kind in (np.int32, np.int32, np.int64, np.int32, np.int64, np.int32)))


@dataclass
class Consent:
    """What was forbidden when something was trained or decided.

    vetoed: (rows of ratings.csv,) bool; None for nothing.
    requests: how many requests were carried out by then.
    """
    vetoed: np.ndarray | None = None
    requests: int = 0

    def as_json(self) -> dict:
        """As a checkpoint and preprocess.json hold it."""
        if self.vetoed is None:
            return {"vetoed": None, "requests": self.requests}
        packed = base64.b64encode(zlib.compress(np.packbits(self.vetoed).tobytes())).decode()
        return {"vetoed": packed, "ratings": len(self.vetoed), "requests": self.requests}

    def forbids_as(self, other: Consent) -> bool:
        """Whether another has the same vetoes."""
        one, two = (np.zeros(0, int) if rows is None else np.flatnonzero(rows) for rows in (self.vetoed, other.vetoed))
        return np.array_equal(one, two)

    @staticmethod
    def of_json(said: dict | None) -> Consent:
        """What as_json has said; of earlier versions, which said nothing, that nothing was forbidden."""
        if not said or said["vetoed"] is None:
            return Consent(None, (said or {}).get("requests", 0))
        bits = np.frombuffer(zlib.decompress(base64.b64decode(said["vetoed"])), np.uint8)
        return Consent(np.unpackbits(bits, count=said["ratings"]).astype(bool), said["requests"])


def barred(whole: Interactions, config: Config, requests: list[dict],
           consent: Consent | None = None) -> tuple[Consent, np.ndarray, np.ndarray, tuple | None]:
    """Which interactions of a dataset may not be used.

    Args:
        whole: all Interactions of the dataset.
        config: the options of unwillingness.
        requests: all that were carried out, see withdrawn.read_requests.
        consent: of something that was trained or decided; None: of now.

    Returns:
        consent: the same, or that of now.
        why: (n,) int32, why each was barred by then: VETO, or the number of a request; 0 for what was not. What is allowed
            later stays barred.
        later: (n,) int32, the number of the first later request that takes it back, allowed again or not; 0 for none.
        said: see unwillingness.stated, where --veto asks for it; else None.

    Raises:
        InputError: what is vetoed is not what it was then.
    """
    said = vetoed = None
    if config.veto:
        said = stated(whole, config, whole=True)
        vetoed = np.zeros(whole.num_interactions, bool)
        vetoed[whole.rows] = said[0] == 1
    if consent is None:
        consent = Consent(vetoed, len(requests))
    elif (consent.vetoed is not None and len(consent.vetoed) != whole.num_interactions) or \
            (vetoed is not None and not consent.forbids_as(Consent(vetoed))):
        raise InputError(f"{dataset_folder(config)}: what is vetoed, or the ratings, have changed since this was trained or "
                         "decided; run train.py and preprocess.py anew, both with --veto and the same rules")
    why = taken_back(whole, config, requests[:consent.requests])
    later = taken_since(whole, config, requests[consent.requests:])
    if consent.vetoed is not None:
        why[(why == 0) & consent.vetoed[whole.rows]] = VETO
    return consent, why, later, said
