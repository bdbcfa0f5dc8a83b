"""The tables of docs/results.md as data, started by scripts/run_results.sh; results/tables.yaml says how each is made."""
import argparse
import hashlib
import shlex
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import yaml

from src import __version__
from src.common.files import write_text
from src.common.machine import hardware, needed

from . import pages

ROOT = Path(__file__).resolve().parents[1]


class Table:
    """An entry of tables.yaml: FOLDER is that of the data, with `file`; `quick`: whether --quick has it, or its flags there.

    Its CSV is what the study writes, under lines `# key: value`. What `head` has of them must stay, or it is measured anew.
    """

    def __init__(self, root, light, name, study, dataset="", file="", flags="", quick=False):
        self.root, self.name, self.light = root, name, " --quick" * light
        flags += f" --seeds 1 {'' if quick is True else quick}" if light else ""
        self.words = shlex.split(f"bash scripts/run_{study}.sh {dataset} {file and 'FOLDER/'}{file} {flags}")
        self.folder = root / "output" / ("results-quick" if light else "results") / name
        self.path = (self.folder.parent if light else root / "results") / f"{name}.csv"
        self.head = {"study": study, "data": dataset or "simulation", "code": code_of(root / "studies" / f"{study}.py"),
                     "run": shlex.join(self.words)}

    def changed(self):
        """What its CSV does not agree with any more, in words; "" where it is up to date."""
        head = pages.read(self.path)[0] if self.path.is_file() else None
        return "no CSV" if not head else ", ".join(f"other {key}" for key in self.head if head.get(key) != self.head[key])

    def measure(self, data, overwrite):
        """Runs the study, which goes on where it was stopped; writes the CSV; `data`: FOLDER. Returns what failed, or ''."""
        study, spent = self.head["study"], self.folder / f"minutes_{self.head['code']}.txt"  # other code measures all anew
        start = time.monotonic() - (60 * float(spent.read_text()) if spent.is_file() and not overwrite else 0)
        words = [word.replace("FOLDER", str(data), word.startswith("FOLDER/")) for word in self.words]
        words += [f"--output_path={self.folder}", *["--overwrite"] * overwrite,
                  *(f"--{name}_path={self.folder / name}" for name in ("data", "checkpoint"))]
        try:
            ended = subprocess.run(words, cwd=self.root).returncode
        finally:  # when it is stopped, too
            write_text(spent, f"{(time.monotonic() - start) / 60:.1f}")
        if ended or not (self.folder / f"{study}.csv").is_file():
            return f"exit status {ended}"
        from src.training.compiled import program  # imports MindSpore, which --check does without
        head = {**self.head, "command": f"bash scripts/run_results.sh {self.name} --data FOLDER{self.light}",
                "machine": f"{hardware()}; {'the C step' if program() else 'the graph'} trains NCF", "version": __version__,
                "date": date.today(), "minutes": spent.read_text()}
        for file in sorted(self.folder.glob(f"{study}*.csv"), reverse=True):  # the table last, for `changed`
            write_text(self.path.with_name(f"{self.name.replace(study, file.stem, 1)}.csv"),
                       "".join(f"# {key}: {value}\n" for key, value in head.items()) + file.read_text())
        return ""


def code_of(module):
    """Hexadecimal digest of a study's module (a path), its programs MODULE_*.py, and all beside them that these import."""
    found = set().union(*map(needed, [module, *module.parent.glob(f"{module.stem}_*.py")]))
    beside = sorted(path for path in found if path.parent == module.parent)
    return hashlib.sha256(b"\0".join(path.name.encode() + b"\0" + path.read_bytes() for path in beside)).hexdigest()[:16]


def main(arguments=None, root=ROOT):
    """Measures, or checks, the tables that are named; see scripts/run_results.sh. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="run_results.sh", description=__doc__)
    parser.add_argument("names", nargs="*", default=[""], help="tables, or beginnings of their names; without: all")
    parser.add_argument("--data", metavar="FOLDER", default="", help="has the data files that results/tables.yaml names")
    for flag, text in {"overwrite": "measure all anew", "quick": "small tables, one seed, to output/results-quick",
                       "check": "name the tables that are not up to date; exit 1 if any"}.items():
        parser.add_argument(f"--{flag}", action="store_true", help=text)
    options, failed, wrote = parser.parse_intermixed_args(arguments), [], False
    tables = [Table(root, options.quick, name, **entry)
              for name, entry in yaml.safe_load((root / "results/tables.yaml").read_text()).items()
              if name.startswith(tuple(options.names)) and (not options.quick or entry.get("quick"))]
    wrong = [f"{name}: no such table{' for --quick' * options.quick}; name some of results/tables.yaml"
             for name in options.names if not any(table.name.startswith(name) for table in tables)]
    for file in (word[7:] for table in tables for word in table.words if word.startswith("FOLDER/") and not options.check):
        if not options.data or not Path(options.data, file).is_file():
            wrong.append(f"--data {options.data!r}: has no {file}; name the folder that has it")
    for table in tables if not wrong else ():
        reason = table.changed()
        print(f"{table.name}: {reason or 'up to date'}", flush=True)
        if not options.check and (reason or options.overwrite):
            reason = table.measure(Path(options.data).resolve(), options.overwrite)
            wrote |= not reason
        failed += [f"{table.name} ({reason})"] * bool(reason)
    if wrong or failed:
        print(f"error: {wrong[0] if wrong else 'not measured: ' + ', '.join(failed)}", file=sys.stderr)
    return 2 if wrong else int(bool(failed)) | (pages.rewrite(root) if wrote and not options.quick else 0)


if __name__ == "__main__":
    sys.exit(main())
