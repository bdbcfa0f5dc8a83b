"""Training steps of NCF on a CPU by a C program, which this machine's compiler makes on first use. See compiled.c."""
from __future__ import annotations

import ctypes
import functools
import logging
import os
import shlex
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from mindspore import Tensor

logger = logging.getLogger("ifrqe")

SECONDS = 60  # that the compiler may take
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fopenmp", "-shared", "-fPIC")
WIDTH = 16  # all widths are filled up to multiples of it
FEW = 4096  # samples a step: with fewer, threads would only wait for each other


@functools.cache
def program():
    """The C function, or None, with a line that says why, where this machine's compiler cannot make it."""
    run = None
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "compiled.so"
            compiler = shlex.split(os.environ.get("CC", "")) or ["cc"]
            subprocess.run([*compiler, *FLAGS, Path(__file__).with_suffix(".c"), "-o", path, "-lm"], check=True, text=True,
                           errors="replace", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=SECONDS)
            run = ctypes.CDLL(str(path)).run
            run.restype = ctypes.c_double
    except (OSError, ValueError, AttributeError, subprocess.SubprocessError) as e:
        if run is None:  # else the folder could not be removed: a network file system keeps what is loaded
            lines = str(getattr(e, "output", "") or e).strip().split("\n")
            logger.info("no compiled training step (%s): the graph's is taken, which is slower; CC names the compiler, "
                        "TMPDIR its folder", next((line for line in lines if "error" in line), lines[-1]).strip())
    return run


def _full(width):
    return -(-width // WIDTH) * WIDTH


class CompiledSteps:
    """Runs the steps of a TrainSteps of an NCF, whose config it is given, on the parameters and moments that it has."""

    def __init__(self, cell, config):
        self.parameters = cell.net.in_layers(dict(cell.net.parameters_and_names()))
        moments = {id(p): both for p, *both in zip((*cell.tables, *cell.weights), (*cell.tables_m, *cell.weights_m),
                                                   (*cell.tables_v, *cell.weights_v))}
        self.sets = self.parameters, *zip(*(moments[id(p)] for p in self.parameters))
        (self.users, f), (_, h), (self.items, _) = (p.shape for p in self.parameters[:3])
        self.f, self.h = _full(f), _full(h)
        self.widths = np.array([2 * self.h, *(_full(p.size) for p in self.parameters[7::2])], np.int32)
        self.dense = cell.update == "dense"
        self.options = np.array([config.beta1, config.beta2, config.epsilon, config.weight_decay], np.float32)
        self.cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()

    def _arrays(self):
        """Zeros as the C program takes parameters, and the part of them that belongs to each of the parameters."""
        f, h, widths = self.f, self.h, self.widths
        tables = [np.zeros((rows, f + h), np.float32) for rows in (self.users, self.items)]
        weights = np.zeros(f + sum((a + 1) * b for a, b in zip(widths, widths[1:])), np.float32)
        places, at = [weights[:f]], f
        for a, b in zip(widths, widths[1:]):
            weight, bias, at = weights[at:at + a * b].reshape(b, a), weights[at + a * b:at + a * b + b], at + (a + 1) * b
            places += [weight[:, :h], weight[:, h:], bias] if len(places) == 1 else [weight, bias]
        places = [*(part for table in tables for part in (table[:, :f], table[:, f:])), *places]
        return (*tables, weights), [place[tuple(map(slice, p.shape))] for place, p in zip(places, self.parameters)]

    def __call__(self, users, items, rates):
        """Runs steps; returns the sum of their mean losses. Raises MemoryError, and then leaves parameters as they were.

        Args:
            users: (s, g) int32.
            items: (s, g, 1 + num_neg) int32.
            rates: (s,) float32, see TrainSteps.
        """
        users, items = (np.ascontiguousarray(array, np.int32) for array in (users, items))
        steps, groups, n = items.shape
        pointers, filled = [], []
        for one in self.sets:
            arrays, places = self._arrays()
            for place, p in zip(places, one):
                place[:] = p.asnumpy()
            pointers.append((ctypes.c_void_p * 3)(*(array.ctypes.data for array in arrays)))
            filled.append((arrays, places))
        rows = np.array([self.users, self.items], np.int32)
        threads = self.cores if groups * n >= FEW else 1
        loss = program()(steps, groups * n, n, self.f, len(self.widths) - 1, self.widths.ctypes, rows.ctypes,
                         ctypes.c_size_t(filled[0][0][2].size), self.dense, threads, users.ctypes, items.ctypes,
                         rates.ctypes, self.options.ctypes, *pointers)
        if loss < 0:
            raise MemoryError(f"a compiled training step of {groups * n:,} samples")
        for one, (_, places) in zip(self.sets, filled):
            for p, place in zip(one, places):
                p.set_data(Tensor(np.ascontiguousarray(place)))
        return loss
