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

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

logger = logging.getLogger("ifrqe")

SECONDS = 60  # that the compiler may take
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fopenmp", "-shared", "-fPIC")
WIDTH = 16  # all widths are filled up to multiples of it
TABLES = 4  # users' two, items' two
PART, SPARE = 160, 4  # samples computed at a time, and rows to spare
FEW = 4096  # samples a step: with fewer, threads would only wait for each other


@functools.cache
def program():
    """The C library, or None, with a line that says why, where this machine's compiler cannot make it.

    Its `content` is that of its file, which is gone.
    """
    library = None
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "compiled.so"
            compiler = shlex.split(os.environ.get("CC", "")) or ["cc"]
            subprocess.run([*compiler, *FLAGS, Path(__file__).with_suffix(".c"), "-o", path, "-lm"], check=True, text=True,
                           errors="replace", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=SECONDS)
            loaded = ctypes.CDLL(str(path))
            loaded.run.restype, loaded.content = None, path.read_bytes()
            library = loaded
    except (OSError, ValueError, AttributeError, subprocess.SubprocessError) as e:
        if library is None:  # else the folder could not be removed: a network file system keeps what is loaded
            lines = str(getattr(e, "output", "") or e).strip().split("\n")
            logger.info("no compiled training step (%s): the graph's is taken, which is slower; CC names the compiler, "
                        "TMPDIR its folder", next((line for line in lines if "error" in line), lines[-1]).strip())
    return library


def _full(width):
    return -(-width // WIDTH) * WIDTH


class Exchanging(nn.Cell):
    """Steps of one rank in one graph call, which costs least: C computes, and the ranks tell each other what they found.

    Args:
        path: of the C library, which may go after the first call.
        told: numbers that a rank tells in a step.
        lazy: whether these are rows, which everyone is told, else gradients of all, whose sum is.
    """

    def __init__(self, path, told, lazy):
        super().__init__()
        self.tell = ops.Custom(f"{path}:tell", lambda *_: [told], ms.int32 if lazy else ms.float32, "aot")
        self.take = ops.Custom(f"{path}:take", lambda *_: [1], ms.int32, "aot")
        self.exchange = ops.AllGather() if lazy else ops.AllReduce()

    def construct(self, words, step, steps):
        while step < steps:
            step = self.take(words, step, self.exchange(self.tell(words, step)))
        return step


class CompiledSteps:
    """Runs the steps of a TrainSteps of an NCF in place, on the parameters and moments that it has.

    Args:
        cell: TrainSteps.
        config: of it.
        groups: of a step of this process, at most.
        ranks: how many processes train.
    """

    def __init__(self, cell, config, groups, ranks=1):
        parameters = cell.net.in_layers(dict(cell.net.parameters_and_names()))
        moments = {id(p): both for p, *both in zip((*cell.tables, *cell.weights), (*cell.tables_m, *cell.weights_m),
                                                   (*cell.tables_v, *cell.weights_v))}
        self.sets = parameters, *zip(*(moments[id(p)] for p in parameters))
        (users, self.f), (_, self.h), (items, _) = (p.shape for p in parameters[:TABLES - 1])
        self.widths = np.array([2 * _full(self.h), *(_full(p.size) for p in parameters[7::2])], np.int32)
        self.options = np.array([config.beta1, config.beta2, config.epsilon, config.weight_decay], np.float32)
        n, wide, self.ranks, self.lazy, self.graph = 1 + config.num_neg, self.f + self.h, ranks, cell.update != "dense", None
        size, samples, self.threads = self._weights()[0].size, groups * n, self._threads(groups * n)
        parts, layers = -(-samples // PART), len(self.widths) - 1

        def numbers(most, rows):  # of a sum
            return size + self.lazy + (min(most, rows) if self.lazy else rows) * (wide + self.lazy)
        self.told = numbers(samples, items)
        room = (PART + SPARE) * int(self.widths.max()) * (layers + 3) + 2 * PART * _full(self.f)
        self.numbers = (n, groups, self.f, _full(self.f), self.h, layers, size, self.lazy, self.threads, ranks, self.told,
                        room, users, items)
        self.kept = [*(np.zeros(number, np.float32) for number in (
            size, parts * size, self.threads * room, samples * wide, samples * wide, numbers(groups, users),
            numbers(ranks * samples, items))), *(np.zeros(rows, np.int32) for rows in (users, items)), np.zeros(parts)]

    def _threads(self, samples):
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        if self.ranks > 1:  # on one machine they share it
            cores = int(os.environ.get("OMP_NUM_THREADS", 1))
        return cores if samples >= FEW else 1

    @property
    def bytes_sent(self):
        """That a rank gives away in a step."""
        return 4 * self.told

    def _weights(self):
        """Zeros as the C program takes the weights behind the tables, and the part of them that belongs to each."""
        widths, parameters = self.widths, self.sets[0][TABLES:]
        weights = np.zeros(_full(self.f) + sum((a + 1) * b for a, b in zip(widths, widths[1:])), np.float32)
        places, at = [weights[:_full(self.f)]], _full(self.f)
        for a, b in zip(widths, widths[1:]):
            weight, bias, at = weights[at:at + a * b].reshape(b, a), weights[at + a * b:at + a * b + b], at + (a + 1) * b
            places += [weight[:, :a // 2], weight[:, a // 2:], bias] if len(places) == 1 else [weight, bias]
        return weights, [place[tuple(map(slice, p.shape))] for place, p in zip(places, parameters)]

    def __call__(self, users, items, own, samples, rates):
        """Runs steps; returns the sum over them of the losses of this process's samples, by the number of everyone's.

        Args:
            users: (s * g,) int32.
            items: (s * g, 1 + num_neg) int32.
            own: (s,) int32, the groups of each step, g at most.
            samples: (s,) int32, of each step, of all processes.
            rates: (s,) float32, see TrainSteps.
        """
        given = [np.ascontiguousarray(array, np.int32) for array in (self.widths, users, items, own, samples)]
        tables, weights, loss = [], [], np.zeros(1)
        for one in self.sets:
            filled, places = self._weights()
            for place, p in zip(places, one[TABLES:]):
                place[:] = p.asnumpy()
            tables += [*(p.asnumpy() for p in one[:TABLES]), filled]  # of which those of the parameters are no copies
            weights += zip(places, one[TABLES:])
        arrays = [*given, rates, self.options, *tables, *self.kept, loss]
        words = np.array([*self.numbers, *(array.ctypes.data for array in arrays)], np.int64)
        if self.ranks == 1:
            program().run(words.ctypes, len(own))
        else:
            self._exchanging(words, len(own))
        for place, p in weights:
            p.asnumpy()[:] = place
        return float(loss[0])

    def _exchanging(self, words, steps):
        with tempfile.TemporaryDirectory() as folder:
            if self.graph is None:
                path = Path(folder) / "compiled.so"
                path.write_bytes(program().content)
                self.graph = Exchanging(path, self.told, self.lazy)
            self.graph(Tensor(words), Tensor([0], ms.int32), Tensor([steps], ms.int32)).asnumpy()
