"""Training steps of NCF on a CPU by a C program, which this machine's compiler makes on first use. See compiled.c."""
import ctypes
import functools
import os
import shlex
import subprocess
import tempfile
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from ..common.terminal import logger

SECONDS = 60  # that the compiler may take
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fopenmp", "-shared", "-fPIC")
WIDTH = 16  # all widths are filled up to multiples of it
PART, SPARE = 160, 4  # samples computed at a time, and rows to spare behind them
FEW = 4096  # samples a step: with fewer, threads would only wait for each other


@functools.cache
def program():
    """The C library, with the `content` of its file, or None, with a line that says why, where no compiler can make it."""
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
    """Steps of one of several processes in one graph call: C computes, and they tell each other what they found.

    folder: for a file, may go after the first call; told: numbers that each tells, which are added up unless `lazy`.
    """

    def __init__(self, folder, told, lazy):
        super().__init__()
        path = folder / "compiled.so"
        path.write_bytes(program().content)
        self.tell = ops.Custom(f"{path}:tell", lambda *_: [told], ms.int32 if lazy else ms.float32, "aot")
        self.take = ops.Custom(f"{path}:take", lambda *_: [1], ms.int32, "aot")
        self.of_all = ops.AllGather() if lazy else ops.AllReduce()

    def construct(self, words, step, steps):
        while step < steps:
            step = self.take(words, step, self.of_all(self.tell(words, step)))
        return step


class CompiledSteps:
    """Training steps of an NCF as those of TrainSteps, in place, on its parameters and on moments as of Trainer.moments.

    groups: of a step of this process, at most; processes: how many train; bytes_sent: by one of several in a step.
    """

    def __init__(self, net, moments, config, groups, processes=1):
        sets = [net.in_layers(named) for named in (dict(net.parameters_and_names()), *moments.values())]
        self.tables, self.weights = ([one[part] for one in sets] for part in (slice(4), slice(4, None)))
        (users, f), (_, h), (items, _) = (p.shape for p in sets[0][:3])
        widths = self.widths = np.array([2 * _full(h), *(_full(p.size) for p in sets[0][7::2])], np.int32)
        self.filled, self.places = zip(*(self._filled(one, _full(f)) for one in self.weights))
        self.options = np.array([config.beta1, config.beta2, config.epsilon, config.weight_decay], np.float32)
        lazy, self.processes, self.graph = int(config.lazy_adam), processes, None
        size, n, layers = self.filled[0].size, 1 + config.num_neg, len(widths) - 1
        samples, parts = groups * n, -(-groups * n // PART)
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        threads = 1 if samples < FEW else cores if processes == 1 else int(os.environ.get("OMP_NUM_THREADS", 1))
        room = (PART + SPARE) * int(widths.max()) * (layers + 3) + 2 * PART * _full(f)

        def numbers(most, rows):  # of a sum
            return size + lazy + (min(most, rows) if lazy else rows) * (f + h + lazy)
        self.told = numbers(samples, items)
        self.bytes_sent = 4 * self.told
        self.numbers = [n, groups, f, _full(f), h, layers, size, lazy, threads, processes, self.told, room, users, items]
        self.kept = [*(np.zeros(number, np.float32) for number in (
            size, parts * size, threads * room, samples * (f + h), samples * (f + h), numbers(groups, users),
            numbers(processes * samples, items))), *(np.zeros(rows, np.int32) for rows in (users, items)), np.zeros(parts)]

    def _filled(self, parameters, full):
        """Zeros as the C program takes the weights behind the tables, and the part of them that belongs to each."""
        widths = self.widths
        weights = np.zeros(full + sum((a + 1) * b for a, b in zip(widths, widths[1:])), np.float32)
        places, at = [weights[:full]], full
        for a, b in zip(widths, widths[1:]):
            weight, bias, at = weights[at:at + a * b].reshape(b, a), weights[at + a * b:at + a * b + b], at + (a + 1) * b
            places += [weight[:, :a // 2], weight[:, a // 2:], bias] if len(places) == 1 else [weight, bias]
        return weights, [place[tuple(map(slice, p.shape))] for place, p in zip(places, parameters)]

    def __call__(self, users, items, own, samples, rates):
        """Runs steps; returns the sum over them of the losses of this process's samples, each by the number of everyone's.

        users (s * g,), items (s * g, 1 + num_neg); of each step (s,) own: the groups, g at most; samples: of all processes;
        rates: see TrainSteps.
        """
        arrays = [*(np.ascontiguousarray(array, np.int32) for array in (self.widths, users, items, own, samples)), rates,
                  self.options]
        for tables, weights, filled, places in zip(self.tables, self.weights, self.filled, self.places):
            for place, p in zip(places, weights):
                place[:] = p.asnumpy()
            arrays += [*(p.asnumpy() for p in tables), filled]  # not copies: they have the memory of the parameters
        loss = np.zeros(1)
        words = np.array([*self.numbers, *(array.ctypes.data for array in (*arrays, *self.kept, loss))], np.int64)
        if self.processes == 1:
            program().run(words.ctypes, len(own))
        else:
            with tempfile.TemporaryDirectory() as folder:
                self.graph = self.graph or Exchanging(Path(folder), self.told, self.numbers[7])
                self.graph(Tensor(words), Tensor([0], ms.int32), Tensor([len(own)], ms.int32)).asnumpy()
        for weights, places in zip(self.weights, self.places):
            for place, p in zip(places, weights):
                p.asnumpy()[:] = place
        return float(loss[0])

