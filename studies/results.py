"""The tables of docs/results.md as data, started by scripts/run_results.sh; results/tables.yaml says how each is made."""
import argparse
import contextlib
import hashlib
import shlex
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import yaml

from src import __version__
from src.common.errors import InputError
from src.common.files import read_json, write_json, write_text
from src.common.machine import _needed, hardware

from . import pages

ROOT = Path(__file__).resolve().parents[1]
SAVE = 30  # seconds after which the time of a study that runs is written down, so that little is lost when it is stopped


class Table:
    """An entry of tables.yaml. FOLDER is that of the data, with `file`; `quick`: whether --quick has it, or its flags there.

    Its CSV is what the study writes, under lines `# key: value`. What `head` has of them must stay, or it is measured anew.
    """

    def __init__(self, root, light, name, study, dataset="", file="", flags="", quick=False):
        self.root, self.name, self.study, self.light = root, name, study, " --quick" * light
        flags += f" --seeds 1 {'' if quick is True else quick}" if light else ""
        self.words = ["bash", f"scripts/run_{study}.sh", *filter(None, [dataset, file and f"FOLDER/{file}"]),
                      *shlex.split(flags)]
        self.folder = root / "output" / ("results-quick" if light else "results") / name
        self.path = (self.folder.parent if light else root / "results") / f"{name}.csv"
        self.head = {"study": study, "data": dataset or "simulation", "code": code_of(root / "studies" / f"{study}.py"),
                     "run": shlex.join(self.words)}

    def changed(self):
        """What its CSV does not agree with any more, in words; "" where it is up to date."""
        head = pages.read(self.path)[0] if self.path.is_file() else {}
        return ", ".join(f"other {key}" for key, value in self.head.items() if head.get(key) != value) if head else "no CSV"

    def measure(self, data, overwrite):
        """Runs the study, which goes on where it was stopped; writes the CSV; `data`: FOLDER. Returns what failed, or ''."""
        spent, written, code = self.folder / "minutes.json", self.folder / f"{self.study}.csv", self.head["code"]
        earlier = read_json(spent, "remove it") if spent.is_file() and not overwrite else {}
        before = earlier["minutes"] if earlier.get("code") == code else 0  # of other code, its cells are measured anew
        words = [word.replace("FOLDER", str(data), word.startswith("FOLDER/")) for word in self.words]
        words += ["--data_path", self.folder / "data", "--checkpoint_path", self.folder / "checkpoint",
                  "--output_path", self.folder, *["--overwrite"] * overwrite]
        start, ended = time.monotonic(), None
        with subprocess.Popen(words, cwd=self.root) as process:
            while ended is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    ended = process.wait(SAVE)
                minutes = before + (time.monotonic() - start) / 60
                write_json(spent, {"code": code, "minutes": minutes})
        if ended or not written.is_file():
            return f"exit status {ended}"
        from src.training.compiled import program  # imports MindSpore, which --check does without
        head = {**self.head, "command": f"bash scripts/run_results.sh {self.name} --data FOLDER{self.light}",
                "machine": f"{hardware()}; {'the C step' if program() else 'the graph'} trains NCF", "version": __version__,
                "date": date.today(), "minutes": f"{minutes:.1f}"}
        for file in sorted(self.folder.glob(f"{self.study}*.csv"), reverse=True):  # the table last, for `changed`
            write_text(self.path.with_name(f"{self.name.replace(self.study, file.stem, 1)}.csv"),
                       "".join(f"# {key}: {value}\n" for key, value in head.items()) + file.read_text())
        return ""


def code_of(module):
    """Hexadecimal digest of a study's module (a path), of all modules beside it that it imports, and of what these do."""
    beside = sorted(path for path in _needed(module) if path.parent == module.parent)
    return hashlib.sha256(b"\0".join(path.name.encode() + b"\0" + path.read_bytes() for path in beside)).hexdigest()[:16]


def run(options, root):
    """Measures, or checks, the tables that the options name; returns the exit status."""
    names, failed, wrote = tuple(options.names) or ("",), [], False
    tables = [Table(root, options.quick, name, **entry)
              for name, entry in yaml.safe_load((root / "results/tables.yaml").read_text()).items()
              if name.startswith(names) and (not options.quick or entry.get("quick"))]
    for name in names:
        if not any(table.name.startswith(name) for table in tables):
            raise InputError(f"{name}: no such table{' for --quick' * options.quick}; name some of results/tables.yaml")
    for table in tables if not options.check else ():
        for file in (word[len("FOLDER/"):] for word in table.words if word.startswith("FOLDER/")):
            if not (options.data and (Path(options.data) / file).is_file()):
                raise InputError(f"--data {options.data}: has no {file}, which {table.name} needs; name its folder")
    for table in tables:
        reason = table.changed()
        print(f"{table.name}: {reason or 'up to date'}", flush=True)
        if not options.check and (reason or options.overwrite):
            print(shlex.join(table.words), flush=True)
            reason = table.measure(Path(options.data or "").resolve(), options.overwrite)
            wrote |= not reason
        failed += [f"{table.name} ({reason})"] * bool(reason)
    if failed:
        print(f"error: not measured: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed)) | (pages.rewrite(root) if wrote and not options.quick else 0)


def main(arguments=None, root=ROOT):
    """The program; see scripts/run_results.sh. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="run_results.sh", description=__doc__)
    parser.add_argument("names", nargs="*", help="tables, or beginnings of their names; without: all")
    parser.add_argument("--data", metavar="FOLDER", help="has the data files that results/tables.yaml names")
    parser.add_argument("--overwrite", action="store_true", help="measure what is up to date too, all of it")
    parser.add_argument("--quick", action="store_true", help="small tables, one seed, into output/results-quick")
    parser.add_argument("--check", action="store_true", help="name the tables that are not up to date; exit 1 if any")
    try:
        return run(parser.parse_intermixed_args(arguments), root)
    except InputError as e:
        print(f"error: {e}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
