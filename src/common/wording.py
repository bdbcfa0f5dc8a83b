"""Numbers and tables as text."""
from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import pandas as pd


def counted(number: int, noun: str) -> str:
    """"1 seed", "2 seeds"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def mean_and_std(values: Iterable[float | None], digits: int = 4) -> str:
    """"mean ± sample standard deviation" of the numbers that are known; a single one is shown alone."""
    known = pd.Series(values, dtype=float).dropna()
    if known.empty:
        return ""
    mean = f"{known.mean():.{digits}f}"
    return mean if len(known) == 1 else f"{mean} ± {known.std():.{digits}f}"


def markdown_text(text: object) -> str:
    """Text that Markdown shows as it stands, on one line: no table, emphasis, code, formula, link or HTML comes of it."""
    text = re.sub(r"[\\|*`~$\[]|(?<!\w)_|_(?!\w)", r"\\\g<0>", " ".join(str(text).split()))
    return text.replace("&", "&amp;").replace("<", "&lt;")


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, whose cells are shown as they are written."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(map(markdown_text, row)) + " |" for row in rows]
    return "\n".join(lines)
