"""The file of a receipt: what a user was told about the decisions on their interactions, as JSON.

The last key of the JSON is a digest over all before it, and the file's bytes follow from its content, so that an altered one
is noticed; whether the content is true, evaluation/receipt.py says. Its `rules` are rules as a `willingness_file` has them.
"""
from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pandas as pd

from ..common.errors import InputError
from ..common.tables import existing_file
from ..constants import ITEM, UNWILLINGNESS, USER

FORMAT = 1
DIGEST = "receipt_sha256"  # the last key
ANEW = "get a new receipt with eval.py --receipt USER"


def sealed(content: dict) -> dict:
    """A receipt: the content, and the digest over it."""
    return {**content, DIGEST: hashlib.sha256(json.dumps(content, allow_nan=False).encode()).hexdigest()}


def text_of(receipt: dict) -> str:
    """A receipt as the text of its JSON file."""
    return json.dumps(receipt, indent=1, allow_nan=False) + "\n"


def read_receipt(path: str | Path) -> dict:
    """The receipt in a JSON file; InputError if it is none, one of another version, or was altered."""
    path = existing_file(path, "name a receipt, receipt_USER.json")
    try:
        text = path.read_bytes().decode()
        receipt = json.loads(text)
        sound = receipt["format"] == FORMAT and \
            text == text_of(sealed({key: value for key, value in receipt.items() if key != DIGEST}))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        sound = False
    if not sound:
        raise InputError(f"{path}: is no receipt of this version, or was altered after it was written; {ANEW}")
    return receipt


def rules_of(path: str | Path) -> pd.DataFrame:
    """The rules of a receipt as the table that a `willingness_file` is; raises as read_receipt does."""
    receipt = read_receipt(path)
    try:
        table = pd.DataFrame(receipt["rules"], columns=[USER, ITEM, UNWILLINGNESS])
        return table.astype({USER: str, ITEM: str, UNWILLINGNESS: float})
    except (ValueError, TypeError, KeyError) as e:
        raise InputError(f"{path}: has no rules that could be read; {ANEW}") from e
