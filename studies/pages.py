"""Puts what results/ holds into README.md and docs/: `python -m studies.pages`; --check names the pages that say otherwise.

Between `<!-- results: NAME,... values=METRIC,... KEY=VALUE ... -->` and `<!-- end -->` stands a table, if they have lines of
their own, or within a line (not at its beginning) one figure: means over the seeds of results/NAME.csv, whose dataset is the
column `data`. rows=, columns= and where= name columns, as COLUMN, or as COLUMN:VALUE/VALUE for these values in this order;
several, with commas, are combined. labels=WORD:TEXT,...; form=.3f, as Python has it; best=yes: the largest in bold.
ci=yes: "mean ± half of the 95% interval" over users and seeds. Users are the same at each seed, so their variance, the mean
of METRIC_se^2, stays; that of seeds, sd^2 / S, is added. Student's t has the degrees of freedom of the sum (Satterthwaite:
S - 1 where seeds make all of it). Without METRIC_se the seeds alone count; a single seed says nothing of others.
"""
import re
import shlex
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import t

from src.common.files import write_text

MARKER = re.compile(r"<!-- results: (.+?) -->(.*?)(<!-- end -->|(?=<!-- results:)|\Z)", re.S)
SHOWN = {"strategy": "`{}`".format, "budget": lambda value: f"{float(value):.0%}"}  # by column, where labels= says nothing


def read(path):
    """The lines `# key: value` of a table as a dict, and the rows below them as a DataFrame."""
    head = dict(line[2:].split(": ", 1) for line in path.read_text().splitlines() if line.startswith("# "))
    return head, pd.read_csv(path, skiprows=len(head), keep_default_na=False, na_values="")


def figure(rows, metric, form, ci):
    """How the mean over seeds of a metric is shown."""
    if rows.seed.duplicated().any():
        raise ValueError("several rows have the same seed: tell them apart by rows=, columns= or where=")
    known = rows.dropna(subset=[metric])
    shown, number = f"{known[metric].mean():{form}}" if len(known) else "", len(known)
    if number and ci:
        seeds = known[metric].var() / number if number > 1 else 0
        total = seeds + (known[f"{metric}_se"] ** 2).mean() if f"{metric}_se" in known else seeds
        half = t.ppf(0.975, (number - 1) * (total / seeds) ** 2 if seeds else np.inf) * np.sqrt(total)
        shown += f" ± {half:{form.lstrip('+')}}"
    return shown


def view(folder, whole, names, *, values, rows="", columns="", where="", labels="", form=".3f", best="", ci=""):
    """What a marker asks for of the tables in `folder`: `whole`, as a Markdown table, or else one figure."""
    tables = [read(folder / f"{name}.csv") for name in names.split(",")]
    table, order = pd.concat([found.assign(data=head["data"]) for head, found in tables], ignore_index=True), {}
    table["seed"] = table.get("seed", 0)  # a table over all seeds has none
    parts = [[word.partition(":")[::2] for word in part.split(",") if word] for part in (where, rows, columns)]
    for column, wanted in sum(parts, []):
        texts = table[column].map(lambda value: f"{value:g}" if isinstance(value, float) else str(value))
        order[column] = wanted.split("/") if wanted else list(dict.fromkeys(texts))
        if missing := {*order[column]} - {*texts}:
            raise ValueError(f"no row has the {column} {', '.join(sorted(missing))}")
        table = table.assign(**{column: texts})[texts.isin(order[column])]
    down, across = ([column for column, _ in part] for part in parts[1:])
    heads, grid = list(product(*map(order.get, across), values.split(","))), {}
    cells = table[down + across].to_numpy().tolist()
    for row, head in product(product(*map(order.get, down)), heads):
        if text := figure(table[[cell == [*row, *head[:-1]] for cell in cells]], head[-1], form, ci):
            grid.setdefault(row, {})[head] = text
    heads = [head for head in heads if any(head in line for line in grid.values())]
    if not grid or not whole and len(grid) * len(heads) > 1:
        raise ValueError(f"finds {len(grid) * len(heads)} figures")
    for head in heads if best else ():
        numbers = {row: float(line[head].split()[0].strip("%")) for row, line in grid.items() if head in line}
        for row in (row for row, number in numbers.items() if number == max(numbers.values())):
            grid[row][head] = f"**{grid[row][head]}**"
    if not whole:
        return next(iter(grid.values()))[heads[0]]
    shown = {value: SHOWN.get(column, str)(value) for column in down + across for value in order[column]}
    shown |= dict(word.rpartition(":")[::2] for word in labels.split(","))
    words = slice(None if "," in values or not across else -1)  # a single metric is not named
    lines = [[""] * len(down) + [", ".join(shown.get(word, word) for word in head[words]) for head in heads],
             ["---"] * (len(down) + len(heads)),
             *([*map(shown.get, row), *(line.get(head, "") for head in heads)] for row, line in grid.items())]
    return "\n\n" + "".join(f"|{'|'.join(line)}|\n" for line in lines) + "\n"


def rewrite(root, check=False):
    """Puts the figures of root/results into the pages, or with `check` says which lack them; returns the exit status."""
    failed = []
    for path in (root / "README.md", *sorted((root / "docs").glob("*.md"))):
        page = now = path.read_text()
        for marker in MARKER.finditer(page):
            try:
                if not marker[3]:
                    raise ValueError("has no <!-- end -->")
                names, *asked = shlex.split(marker[1])
                made = view(root / "results", marker[2][:1] == "\n", names, **dict(word.split("=", 1) for word in asked))
                now = now.replace(marker[0], f"<!-- results: {marker[1]} -->{made}{marker[3]}")
            except (ValueError, LookupError, TypeError, OSError) as e:
                failed.append(f"{path.relative_to(root)}: {marker[1]}: {type(e).__name__}: {e}")
        if check and now != page:
            failed.append(f"{path.relative_to(root)}: does not say what results/ says; python -m studies.pages mends it")
        elif now != page:
            write_text(path, now)
    print("\n".join(f"error: {line}" for line in failed) or "pages say what results/ says")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(rewrite(Path(__file__).resolve().parents[1], "--check" in sys.argv[1:]))
