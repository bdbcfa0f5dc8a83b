"""Numbers and tables as text."""
from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from .terminal import markdown_text


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


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, whose cells are shown as they are written."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(map(markdown_text, row)) + " |" for row in rows]
    return "\n".join(lines)
