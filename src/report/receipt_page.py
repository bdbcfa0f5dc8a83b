"""The receipts of users as files, each JSON and a page for people that needs no network, and their check."""
from collections.abc import Iterator
from pathlib import Path

from ..common.errors import InputError
from ..common.files import write_text
from ..common.terminal import RESULT, Painted, logger, paint, printable
from ..config import Config
from ..consent.receipts import read_receipt, text_of
from ..evaluation.receipt import STATE, STATES, Receipts, check, file_stem
from ..evaluation.recommend import Answer
from ..sources.catalogue import find_users
from .page import environment


def write_receipts(config: Config) -> None:
    """Writes receipt_USER.json and its view receipt_USER.html under output_path for each of the users `receipt`.

    Raises InputError: there is no such user, nothing is decided yet, or a file is unfit.
    """
    receipts = Receipts(config)
    for user in find_users(receipts.dataset, config.receipt, "receipt"):
        receipt = receipts.of(user)
        parts = {state: [row for row in receipt["interactions"] if row[STATE] == state] for state in STATES}
        page = environment().get_template("receipt.html").render(receipt=receipt, parts=parts)
        paths = [Path(config.output_path) / (file_stem(receipt["user_id"]) + ending) for ending in (".json", ".html")]
        for path, text in zip(paths, (text_of(receipt), page)):
            write_text(path, text)
        logger.log(RESULT, "receipt written to %s and %s", *paths)


def verify_receipt(config: Config) -> None:
    """Checks the receipt in the file `verify_receipt` against the files that are there: a line each.

    Raises InputError: the file is no receipt, or a check has failed.
    """
    path = Path(config.verify_receipt)
    found = [("the file is as it was written", ""), *check(read_receipt(path), config)]  # any other is not read
    faults = [fault for _, fault in found if fault]
    checks = [{"check": name, "ok": not fault, "fault": fault} for name, fault in found]
    Checks(receipt=str(path), checks=checks).show(config.format)
    if faults:
        raise InputError(f"{path}: {len(faults)} of {len(found)} checks failed; the first: {printable(faults[0])}")


class Checks(Answer):
    """What was checked of a receipt, by the key `checks`."""

    def lines(self) -> Iterator[str]:
        for row in self["checks"]:
            said = printable(row["check"] if row["ok"] else f"{row['check']}: {row['fault']}")
            yield Painted(f"{paint('ok   ', 'green') if row['ok'] else paint('fault', 'yellow')}  {said}")
