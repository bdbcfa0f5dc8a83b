"""Which evaluations may be compared, the table that compares them, and who gains and who pays between two models."""
from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..common.terminal import Painted, paint
from ..constants import EARLIER

if TYPE_CHECKING:
    import pandas as pd

# Equal in two evaluations, or there is no comparison; what is in `training` as well, option by option.
COMPARED = ("dataset", "seed", "num_users", "num_items", "ratings_sha256", "num_candidates", "candidates",
            "candidates_sha256", "total_wv")
OF_THE_SEED = ("seed", "training seed", "candidates_sha256", "total_wv")  # may differ between different seeds
HIGHER_IS_BETTER = ("hr@", "ndcg@", "full_hr@", "full_ndcg@", "auc", "reward")
LOWER_IS_BETTER = ("loss", "pos_loss", "wv", "spent_wv")
NO_FIGURES = ("model", "epoch", "personal", "seconds", "training", "made_with", *COMPARED[:-1])
QUARTERS = 4  # of the users, by a number that describes them
TRAINED, PERSONAL = "trained", "personal"  # user rows, and the ends of metrics with them beside those of what serves


def not_comparable(plain: dict, masked: dict, but: Sequence[str] = ()) -> str:
    """In what two evaluations differ, beside the keys `but`, so that their records must not be compared; "" if they may."""
    said = _differences(_compared(plain), _compared(masked), but)
    if not (plain.get("training") and masked.get("training")) and not said:
        return "an earlier version evaluated them, and does not say how they were trained"
    return said


def _compared(record):
    """What must be the same in two evaluations; options that evaluation and training both have stand there twice."""
    compared = {**{key: record.get(key) for key in COMPARED}, "top_k": top_k_of(record)}
    training = record.get("training", {})
    for key, value in ({**EARLIER, **training} if training else {}).items():
        compared[f"training {key}" if key in compared else key] = value
    compared.pop("ranks", None)  # how many changes a model as another order of the samples would
    return compared


def _differences(a, b, but=()):
    """In what two dicts differ, in words; of digests only that they do."""
    return ", ".join(f"other {key.split('_')[0]}" if key == "code" or key.endswith("_sha256") else
                     f"{key} {a.get(key)} against {b.get(key)}"
                     for key in {**a, **b} if key not in but and not _same(a.get(key), b.get(key)))


def _same(a, b):
    """Whether two values agree but for the order in which they were added up."""
    return a == b or isinstance(a, float) and isinstance(b, float) and math.isclose(a, b, rel_tol=1e-12)


def made_otherwise(plain: dict, masked: dict) -> str:
    """What should change no figure by much, but is not alike in two evaluations: code, library, device; "" if nothing."""
    said = _differences(*(record.get("made_with", {}) for record in (plain, masked)))
    return f"the two were evaluated with {said}; eval.py --overwrite evaluates anew" if said else ""


def rankings(names: Iterable[str]) -> list[str]:
    """The names of ranking metrics of what serves, HR@k and NDCG@k, among others."""
    return [name for name in names if re.fullmatch(r"(hr|ndcg)@\d+", name)]


def rows_that_serve(*records: dict) -> list[tuple[str, ...]]:
    """The row of a table that says which user rows evaluations are of; none if --personal was auto in none of them."""
    if not any(key.endswith(f"_{PERSONAL}") for record in records for key in record):
        return []
    return [("user rows", *(PERSONAL if record.get("personal") else TRAINED for record in records))]


def top_k_of(record: dict) -> int | None:
    """The length of the lists that an evaluation looked at."""
    return next((int(key.split("@")[1]) for key in rankings(record)), None)


def comparison_rows(plain: dict, masked: dict) -> tuple[list, list]:
    """The results of both models, with both rewards at the price of the masked one, which was known last.

    Returns rows: list of (metric, plain, masked, change), all text; better: list of 1 (the change is for the better), -1
        (for the worse) or 0, for each row.
    """
    rows = [(*row, "") for row in rows_that_serve(plain, masked)]
    better = [0] * len(rows)
    if (weight := masked.get("willingness_weight")) is not None:
        plain = {**plain, "willingness_weight": weight, "reward": -plain["loss"] - weight * plain["wv"]}
    for key in masked:
        a, b = plain.get(key), masked[key]
        if key in NO_FIGURES or a is None or b is None:
            continue
        form = "," if isinstance(b, int) else ".3g" if key == "willingness_weight" else ".4f"
        rows.append((key, format(a, form), format(b, form), format(b - a, "+" + form)))
        sign = 1 if key.startswith(HIGHER_IS_BETTER) else -1 if key.startswith(LOWER_IS_BETTER) else 0
        better.append(int(np.sign(b - a)) * sign)
    return rows, better


def comparison_table(plain: dict, masked: dict) -> Painted:
    """The results of both models side by side, with the change, as text for a terminal."""
    rows, better = comparison_rows(plain, masked)
    rows.insert(0, ("", plain["model"], masked["model"], "change"))
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = []
    for row, good in zip(rows, [0, *better]):
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))]
        if good:
            cells[3] = paint(cells[3], "green" if good > 0 else "red")
        lines.append("  ".join(cells))
    ruler = "-" * len(lines[0])
    title = paint(f"{plain['dataset']}: test items, plain against masked", "bold")
    return Painted("\n".join([ruler, title, ruler, lines[0], ruler, *lines[1:], ruler]))


def quarter_of(number: np.ndarray | pd.Series) -> np.ndarray:
    """(num_users,) int, from 0: the quarter of each user by a number, at a border the lower; fewer where many are equal."""
    edges = np.unique(np.quantile(number, np.linspace(0, 1, QUARTERS + 1)))
    return np.maximum(np.searchsorted(edges, number) - 1, 0)


def changes_in_quarters(users: pd.DataFrame, number: np.ndarray | pd.Series) -> pd.DataFrame:
    """The changes of users in quarters by a number, see quarter_of; all together if it is the same for all.

    `users`: loss_change in nats and hit_change (1, 0 or -1), a row for each user. Returns a row for each quarter: users, low
    and high (ends of the number), and the means loss_change, worse (share of the users whose loss rose) and hit_change.
    """
    rows = users.assign(number=number, worse=users.loss_change > 0).groupby(quarter_of(number))
    return rows.agg(users=("number", "size"), low=("number", "min"), high=("number", "max"),
                    loss_change=("loss_change", "mean"), worse=("worse", "mean"), hit_change=("hit_change", "mean"))
