"""Where and on what a stage runs: this machine or ModelArts; CPU, GPU or Ascend; MindSpore 2.0 to 2.10."""
from __future__ import annotations

import functools
import importlib
import os
import re
import signal
import subprocess
import threading
from pathlib import Path
from types import ModuleType

from .common.errors import InputError, logger
from .common.process import command
from .config import Config

ACCELERATORS = ("Ascend", "GPU")  # in the order in which `auto` tries them
PROBE_SECONDS = 300  # that a device may take for its first kernel
_used = []  # device and its index, once they are set


def adapter(config: Config) -> ModuleType:
    """The module that stands for the place: local_adapter, or moxing_adapter where `enable_modelarts` is set."""
    return importlib.import_module(f".{'moxing' if config.enable_modelarts else 'local'}_adapter", __package__)


def set_device(config: Config) -> str:
    """Sets MindSpore to graph mode on the device `device_target`; auto takes Ascend, then GPU, then CPU.

    An accelerator must compute one small product first, in a process of its own, since a process keeps the device that it
    has set: `auto` passes over one that cannot, with a warning.
    Returns: The name of the device: "Ascend", "GPU" or "CPU".
    Raises InputError: the device that was asked for is not there or does not compute.
    """
    import mindspore
    # MindSpore answers Ctrl-C with SIGTERM to itself, which would end the process without a word
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    asked, number = config.device_target, config.device_id
    for target in {"auto": ACCELERATORS, "CPU": ()}.get(asked, (asked,)):
        there = is_there(target)
        why = fault(target, number) if there else f"MindSpore {mindspore.__version__} finds no {target} on this machine"
        if why is None:
            return _use(target, number)
        if asked != "auto":
            why += lacking() if target == "GPU" else ""
            raise InputError(f"--device_target {target} --device_id {number}: {why}; use the scripts ending in _cpu.sh, or "
                             "--device_target CPU")
        if there:
            logger.warning("%s %d is there, but cannot be used (%s); going on without it", target, number, why)
    return _use("CPU", 0)


def is_there(target: str) -> bool:
    """Whether MindSpore finds an accelerator, "GPU" or "Ascend"; where it cannot tell (2.0 to 2.2) it has to be tried."""
    import mindspore
    backend = getattr(getattr(mindspore, "device_context", None), target.lower(), None)
    if hasattr(backend, "is_available"):
        return bool(backend.is_available())
    if hasattr(mindspore, "hal"):
        return bool(mindspore.hal.is_available(target))
    return Path("/dev/nvidiactl" if target == "GPU" else "/dev/davinci_manager").exists()


def lacking() -> str:
    """What MindSpore's part for the GPU needs and the loader does not find, for the end of a line; empty if it has all."""
    import mindspore
    parts = Path(mindspore.__file__).parent.glob("lib/plugin/libmindspore_gpu.so.*")  # one for each CUDA
    try:
        listed = [subprocess.run(["ldd", part], stdout=subprocess.PIPE, text=True).stdout for part in parts]
    except OSError:  # there is no ldd
        return ""
    names = min((sorted(set(re.findall(r"(\S+) => not found", text))) for text in listed), key=len,
                default=["a part for it in this package of MindSpore"])
    missing = ", ".join(names).replace("libcuda.so.1", "libcuda.so.1 (the NVIDIA driver)")
    return f"; missing: {missing}, see docs/training.md" if missing else ""


@functools.cache
def fault(target: str, number: int) -> str | None:
    """Why an accelerator cannot compute, or None if it can."""
    try:
        done = subprocess.run(command(__name__, "_probe", target, number), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, errors="replace", timeout=PROBE_SECONDS, env=dict(os.environ))
    except subprocess.TimeoutExpired:
        return f"no answer in {PROBE_SECONDS} seconds"
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    return None if done.returncode == 0 else (lines[-1].strip() if lines else f"its process ended with {done.returncode}")


def _probe(target, number):
    import numpy as np
    from mindspore import Tensor, ops
    _use(target, int(number))
    product = ops.MatMul()(Tensor(np.full((2, 3), 2, np.float32)), Tensor(np.ones((3, 2), np.float32))).asnumpy()
    if not (product == 6).all():
        raise RuntimeError(f"a product came out as {product.tolist()}")


def _use(target, number):
    """Sets the device, full precision and fixed order of additions; returns its name."""
    import mindspore
    if _used == [target, number]:
        return target
    try:
        if hasattr(mindspore, "set_device"):
            mindspore.set_device(target, number if target != "CPU" else None)
        else:  # before 2.5
            mindspore.set_context(device_target=target, **({"device_id": number} if target != "CPU" else {}))
        mindspore.set_context(mode=mindspore.GRAPH_MODE)
        if target == "Ascend":  # some generations compute products in half precision otherwise
            if hasattr(mindspore, "device_context"):
                mindspore.device_context.ascend.op_precision.precision_mode("must_keep_origin_dtype")
            else:
                mindspore.set_context(ascend_config={"precision_mode": "must_keep_origin_dtype"})
        if target != "CPU" and hasattr(mindspore, "set_deterministic"):
            mindspore.set_deterministic(True)
    except (RuntimeError, ValueError, TypeError) as e:
        raise InputError(f"--device_target {target} --device_id {number}: MindSpore refused it "
                         f"({(str(e).strip().splitlines() or ['no reason given'])[0]}); choose another device") from e
    _used[:] = [target, number]
    return target
