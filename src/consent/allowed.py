"""What may be used of a dataset: all but what is vetoed or withdrawn, and what takes no part for want of the rest."""
from __future__ import annotations

import base64
import dataclasses
import zlib
from dataclasses import dataclass

import numpy as np

# why an interaction takes no part, in Dropped.why; above 0 it is the number of the request that took it back
VETO, TOO_FEW, WAITS = -1, -2, -3


@dataclass
class Dropped:
    """Interactions that take no part, but are left out of what is drawn or offered, since their users have had these items.

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


NONE_DROPPED = Dropped(*(np.zeros(0, kind) for kind in (np.int32, np.int32, np.int64, np.int32, np.int64, np.int32)))


@dataclass
class Consent:
    """What was forbidden at a training or decision: (rows of ratings.csv,) bool or None, after so many requests."""
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
