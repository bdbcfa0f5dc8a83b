"""The columns of a table that another program wrote: which are of use, whatever they are called there."""
from __future__ import annotations

import logging
import re
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd

from ..constants import GENRE, GENRES, ITEM, RATING, TIMESTAMP, TITLE, USER
from .columns import BLANKS
from .errors import InputError
from .times import Moments

logger = logging.getLogger("ifrqe")

YEAR = "year"  # of a movie, which RecBole has in a column of its own
# What columns are called elsewhere, see _plain_name; a name earlier in the list wins. All others have their own name alone.
SYNONYMS = {
    USER: ("userid", "user", "uid", "users", "useridx", "reviewerid", "customerid", "memberid", "visitorid", "accountid"),
    ITEM: ("itemid", "item", "iid", "items", "itemidx", "movieid", "movie", "productid", "product", "parentasin", "asin",
           "trackid", "songid", "artistid", "bookid", "isbn", "businessid", "videoid", "newsid", "gameid"),
    RATING: ("rating", "ratings", "score", "stars", "overall", "preference"),
    TIMESTAMP: ("timestamp", "time", "ts", "unixreviewtime", "unixtime", "datetime", "date", "ratedat", "createdat"),
    TITLE: ("title", "name", "movietitle", "itemtitle", "itemname", "moviename", "productname", "producttitle", "trackname",
            "songname", "songtitle", "artistname", "booktitle", "bookname", "appname", "gamename"),
    YEAR: ("releaseyear", "year", "movieyear", "publicationyear", "yearofpublication"),
    GENRES: ("genres", "genre", "categories", "category", "categoryid", "class", "classes", "type", "types"),
    GENRE: ("genre", "genres"),
}
_IN_MOVIES = {**SYNONYMS, ITEM: (*SYNONYMS[ITEM], "id")}  # in a list of items their id may be called just that
_NO_TIME = re.compile(r".*(id|idx|no|nr|num|number|code|key|price|amount|count|session|order|invoice|phone|views)s?")
_QUOTES = "\"'`\u00b4\u2018\u2019\u201c\u201d"


class Header:
    """The names of a table's columns.

    Names may be written in any case, with blanks or quotes around them, with the type that RecBole adds (user_id:token), or
    be one of SYNONYMS.

    Args:
        names: as they stand there.
        known, needed: the columns that are of use, and those of them that must be there.
        name: of the file, for messages.
        extra: what happens to other columns: "named" in a line of the log, "refused", or "quiet".
        movies: whether it is a list of items.

    found: our names of the columns that are of use, by their place.
    asked: places of other columns that may hold the times.

    Raises:
        InputError: a column is there twice, a needed one is not there, or another one is to be refused.
    """

    def __init__(self, names: list[str], known: list[str], name: str | Path, needed: list[str] = (), extra: str = "named",
                 movies: bool = False):
        self.name, self.names, self.words = name, names, list(map(_plain_name, names))
        self.shown = [column.strip() for column in names]
        self.extra, synonyms, self.found = extra, _IN_MOVIES if movies else SYNONYMS, {}
        for column in known:
            self._find(column, synonyms)
        missing = [column for column in needed if column not in self.found.values()]
        if missing:
            raise InputError(f"{name}: has no column {', '.join(missing)} (columns: {', '.join(self.shown)}); the columns "
                             f"are {', '.join(known)}")
        self.others = [k for k, word in enumerate(self.words) if k not in self.found and word]
        if self.others and extra == "refused":
            raise InputError(f"{name}: has a column {self.shown[self.others[0]]!r}; the columns are {', '.join(known)}")
        self.own = next((k for k, column in self.found.items() if column == TIMESTAMP), None)
        certain = TIMESTAMP not in known or self.own is not None and self.words[self.own] == TIMESTAMP
        self.moments = {} if certain else {k: Moments() for k in range(len(names)) if k == self.own or k not in self.found}

    @property
    def asked(self) -> list[int]:
        return [k for k, moments in self.moments.items() if moments.ways != {} and k != self.own]

    def _find(self, column, synonyms):
        names = synonyms.get(column, (_plain_name(column),))
        places = [k for k, word in enumerate(self.words) if word in names]
        if not places:
            return
        best = min(places, key=lambda k: names.index(self.words[k]))
        # which of two names of users or items is meant cannot be known; of other columns the first synonym counts
        alike = [k for k in places if column in (USER, ITEM) and synonyms is SYNONYMS or self.words[k] == self.words[best]]
        if len(alike) > 1:
            named = ", ".join(self.shown[k] for k in alike)
            raise InputError(f"{self.name}: has the column {column} twice ({named}); remove or rename one")
        self.found[best] = column

    def look_at(self, part: pd.DataFrame) -> pd.DataFrame:
        """The columns of use of the next rows, which have our names, those of other columns "#" and their place.

        Raises:
            InputError: a row names the columns again, as in files that were joined.
        """
        for k, moments in self.moments.items():
            if (column := self.found.get(k, f"#{k}")) in part:
                moments.add(part[column])
        part = part[list(self.found.values())]
        part.attrs["header"] = {column: self.names[k] for k, column in self.found.items()}
        again = np.full(len(part), {USER, ITEM} <= set(part))
        for column in (USER, ITEM) if again.any() else ():
            texts = part[column].cat.categories if part[column].dtype == "category" else ()
            words = [_plain_name(text) in SYNONYMS[column] for text in texts]
            again &= np.array(words, bool)[part[column].cat.codes] if any(words) else False
        if again.any():
            raise InputError(f"{self.name}: row {part.index[again.argmax()] + 1} is the header once more; remove that row")
        return part

    def finish(self) -> None:
        """Says which columns are not used; raises InputError if one of them holds the times, and the timestamp none, or
        whole days alone."""
        finer = self.moments[self.own].finer if self.own in self.moments else None
        for k, moments in self.moments.items() if not finer else ():
            if k == self.own or _NO_TIME.fullmatch(self.words[k]) and not moments.text:
                continue
            if (held := moments.finer) is not None and (finer is None or held):
                more = "" if self.own is None else f" that tell more than {self.shown[self.own]}"
                raise InputError(f"{self.name}: the column {self.shown[k]} holds times{more}, but is not called so; rename "
                                 f"the one that counts to {TIMESTAMP}, or remove it if it is about something else")
        if self.others and self.extra == "named":
            logger.info("%s: not used: the %s %s", self.name, "columns" if len(self.others) > 1 else "column",
                        ", ".join(self.shown[k] for k in self.others))


def _plain_name(name):
    """The name of a column as SYNONYMS has it."""
    name = unicodedata.normalize("NFKC", str(name)).split(":")[0].strip(_QUOTES + BLANKS)
    return re.sub(r"[\s_-]", "", name).casefold()
