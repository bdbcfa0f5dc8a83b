"""Where and on what a stage runs: this machine or ModelArts; CPU, GPU or Ascend."""
import signal
import threading

from .errors import InputError


def adapter(config):
    """The module that stands for the place: local_adapter, or moxing_adapter where `enable_modelarts` is set."""
    if config.enable_modelarts:
        from . import moxing_adapter
        return moxing_adapter
    from . import local_adapter
    return local_adapter


def set_device(config):
    """Sets MindSpore to graph mode on the device `device_target`; auto takes Ascend, then GPU, then CPU.

    Returns:
        The name of the device: "Ascend", "GPU" or "CPU".

    Raises:
        InputError: the device that was asked for is not there.
    """
    import mindspore
    # MindSpore answers Ctrl-C with SIGTERM to itself, which would end the process without a word
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    target = config.device_target
    if target == "auto":
        target = next((t for t in ("Ascend", "GPU") if mindspore.hal.is_available(t)), "CPU")
    elif target != "CPU" and not mindspore.hal.is_available(target):
        raise InputError(f"--device_target {target}: MindSpore {mindspore.__version__} finds no {target} on this machine; "
                         "use the scripts ending in _cpu.sh, or --device_target CPU")
    try:
        mindspore.set_device(target, config.device_id if target != "CPU" else None)
        mindspore.set_context(mode=mindspore.GRAPH_MODE)
    except (RuntimeError, ValueError) as e:
        raise InputError(f"--device_target {target} --device_id {config.device_id}: MindSpore refused it "
                         f"({str(e).strip().splitlines()[0]}); choose another device") from e
    return target
