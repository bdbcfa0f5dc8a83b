"""IFRQE on MindSpore: user-controlled data for recommendation, decided with influence functions."""
import os
import sys
from importlib.util import find_spec

__version__ = "0.3.0"

if __name__ == "src":  # a program of a checkout, by an interpreter that may be another than that of .venv
    for _name in ("mindspore", "numpy", "pandas", "scipy", "sklearn", "threadpoolctl", "tqdm", "yaml"):
        if find_spec(_name) is None:
            print(f"error: {sys.executable}: No module named {_name}; run bash scripts/setup_env.sh, then use "
                  ".venv/bin/python", file=sys.stderr)
            sys.exit(2)


def __dir__():
    return [*globals(), "decide"]


def __getattr__(name):
    if name != "decide":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    os.environ.setdefault("GLOG_v", "3")  # else MindSpore writes warnings of its own to standard error
    from .call import decide  # not before it is asked for: `import ifrqe` loads neither pandas nor MindSpore
    return decide


# Must precede `import mindspore`. Without it, the Python thread, the frontend queue and the kernel thread spin against each
# other on machines with few cores.
os.environ.setdefault("MS_DEV_JIT_PIPELINE", "0")
