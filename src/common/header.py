"""The columns of a table that another program wrote: which are of use, whatever they are called there."""
from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd

from ..constants import GENRE, GENRES, ITEM, RATING, TIMESTAMP, TITLE, USER
from .columns import BLANKS
from .errors import InputError, logger
from .times import moments

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
_DIGIT = re.compile(r"\d")  # which no name of a column of ids has
_QUOTES = "\"'`\u00b4\u2018\u2019\u201c\u201d"


class Header:
    """The names of a table's columns.

    Names may be written in any case, with blanks or quotes around them, with the type that RecBole adds (user_id:token), or
    be one of SYNONYMS.
    names: as they stand there.
    known, needed: the columns that are of use, and those of them that must be there.
    extra: what happens to other columns: "named" in a line of the log, "refused", or "quiet".
    movies: whether it is a list of items.
    Raises InputError: a column is there twice, a needed one is not there, or another one is to be refused.
    found: our names of the columns that are of use, by their place.
    columns: of every column that name, or "#" and its place.
    """

    def __init__(self, names: list[str], known: list[str], name: str | Path, needed: list[str] = (), extra: str = "named",
                 movies: bool = False):
        self.name, self.names, self.words = name, names, list(map(_plain_name, names))
        self.shown, self.found = [column.strip() for column in names], {}
        for column in known:
            self._find(column, _IN_MOVIES if movies else SYNONYMS)
        if missing := [column for column in needed if column not in self.found.values()]:
            raise InputError(f"{name}: has no column {', '.join(missing)} (columns: {', '.join(self.shown)}); the columns "
                             f"are {', '.join(known)}")
        self.columns, self.timed = [self.found.get(k, f"#{k}") for k in range(len(names))], TIMESTAMP in known
        others = [self.shown[k] for k, word in enumerate(self.words) if k not in self.found and word]
        if others and extra == "refused":
            raise InputError(f"{name}: has a column {others[0]!r}; the columns are {', '.join(known)}")
        if others and extra == "named":
            logger.info("%s: not used: the %s %s", name, "columns" if len(others) > 1 else "column", ", ".join(others))

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

    def of_use(self, part: pd.DataFrame) -> pd.DataFrame:
        """The columns of use; raises InputError if a row names the columns again, as in files that were joined."""
        part = part[list(self.found.values())]
        part.attrs["header"] = {column: self.names[k] for k, column in self.found.items()}
        again = np.full(len(part), {USER, ITEM} <= set(part))
        for column in (USER, ITEM):
            texts = part[column].cat.categories if again.any() and part[column].dtype == "category" else ()
            words = [not _DIGIT.search(text) and _plain_name(text) in SYNONYMS[column] for text in texts]
            again &= np.array(words, bool)[part[column].cat.codes] if any(words) else False
        if again.any():
            raise InputError(f"{self.name}: row {part.index[again.argmax()] + 1} is the header once more; remove that row")
        return part

    def refuse_other_times(self, part: pd.DataFrame) -> None:
        """Raises InputError if in the first rows, which have all `columns`, another one holds times that are of use, and the
        timestamp none, or whole days alone."""
        own = next((k for k, column in self.found.items() if column == TIMESTAMP), None)
        days = None if own is None else moments(part[TIMESTAMP])
        if not self.timed or own is not None and (self.words[own] == TIMESTAMP or days is not None and (days % 1).any()):
            return
        for k, word in enumerate(self.words):
            if k in self.found or _NO_TIME.fullmatch(word) and pd.api.types.is_numeric_dtype(part[f"#{k}"]):
                continue
            if (held := moments(part[f"#{k}"])) is not None and (days is None or (held % 1).any()):
                more = "" if own is None else f" that tell more than {self.shown[own]}"
                raise InputError(f"{self.name}: the column {self.shown[k]} holds times{more}, but is not called so; rename "
                                 f"the one that counts to {TIMESTAMP}, or remove it if it is about something else")


def _plain_name(name):
    name = unicodedata.normalize("NFKC", str(name)).split(":")[0].strip(_QUOTES + BLANKS)
    return re.sub(r"[\s_-]", "", name).casefold()
