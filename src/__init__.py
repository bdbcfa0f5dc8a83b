"""IFRQE on MindSpore: user-controlled data for recommendation, decided with influence functions."""
import os

__version__ = "0.2.0"

# Must precede `import mindspore`. Without it, the Python thread, the frontend queue and the kernel thread spin against each
# other on machines with few cores.
os.environ.setdefault("MS_DEV_JIT_PIPELINE", "0")
