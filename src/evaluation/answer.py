"""What somebody asked for, as JSON for a program or as lines for a person."""
from __future__ import annotations

import json
import logging
from collections.abc import Iterator

from ..common.terminal import RESULT

logger = logging.getLogger("ifrqe")


class Answer(dict):
    """A dict that JSON can hold; each kind of answer says in which lines a person reads it."""

    def lines(self) -> Iterator[str]:
        """The lines for a terminal; of what is not Painted, whatever could steer one is escaped."""
        raise NotImplementedError

    def show(self, form: str) -> None:
        """Shows it as `form` says: "json", or anything else for the lines."""
        for line in [json.dumps(self, indent=2, ensure_ascii=False)] if form == "json" else self.lines():
            logger.log(RESULT, "%s", line)
