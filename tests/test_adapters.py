import shutil
import sys
import types
from pathlib import Path

import pytest

from src import device_adapter
from src.common import stage
from src.common.errors import InputError
from src.device_adapter import adapter, set_device
from tests.small import refused


class Backend:
    """A MindSpore of some version with some devices, and what it was told to do."""

    def __init__(self, monkeypatch, devices=(), broken=(), old=False):
        self.told = []
        module = types.SimpleNamespace(__version__="2.0.0" if old else "2.10.0", GRAPH_MODE=0,
                                       set_context=lambda **options: self.told.append(options))
        if not old:
            def backend(name):
                precision = types.SimpleNamespace(precision_mode=lambda mode: self.told.append(mode))
                return types.SimpleNamespace(is_available=lambda: name in devices, op_precision=precision)
            module.device_context = types.SimpleNamespace(ascend=backend("Ascend"), gpu=backend("GPU"))
            module.set_device = lambda target, number=None: self.told.append((target, number))
            module.set_deterministic = lambda value: self.told.append(("deterministic", value))
        monkeypatch.setitem(sys.modules, "mindspore", module)
        monkeypatch.setattr(device_adapter, "_used", [])
        monkeypatch.setattr(device_adapter, "fault", lambda target, number: "no kernel image" if target in broken else None)
        if old:
            monkeypatch.setattr(device_adapter, "is_there", lambda target: target in devices)


@pytest.mark.parametrize("devices, broken, taken", [
    ((), (), "CPU"), (("GPU",), (), "GPU"), (("Ascend", "GPU"), (), "Ascend"), (("Ascend", "GPU"), ("Ascend",), "GPU"),
    (("Ascend", "GPU"), ("Ascend", "GPU"), "CPU")])
def test_auto_takes_the_first_device_that_computes(settings, monkeypatch, caplog, devices, broken, taken):
    backend = Backend(monkeypatch, devices, broken)
    config = settings("--device_target", "auto", "--device_id", 3)
    assert set_device(config) == set_device(config) == taken
    assert backend.told.count((taken, None if taken == "CPU" else 3)) == 1  # a process sets its device once
    assert ("must_keep_origin_dtype" in backend.told) == (taken == "Ascend")
    assert (("deterministic", True) in backend.told) == (taken != "CPU")
    for target in broken:
        assert f"{target} 3 is there, but cannot be used (no kernel image); going on without it" in caplog.text


@pytest.mark.parametrize("target", ["GPU", "Ascend"])
def test_a_device_that_was_asked_for_by_name_must_compute(settings, monkeypatch, target):
    config = settings("--device_target", target)
    for devices, broken, why in (((), (), f"finds no {target}"), ([target], [target], "no kernel image")):
        Backend(monkeypatch, devices, broken)
        with refused(f"--device_target {target}", why, "--device_target CPU"):
            set_device(config)
    Backend(monkeypatch, [target])
    assert set_device(config) == target


@pytest.mark.parametrize("target", ["CPU", "GPU", "Ascend"])
def test_the_oldest_mindspore_is_told_in_its_own_words(settings, monkeypatch, target):
    backend = Backend(monkeypatch, ["GPU", "Ascend"], old=True)
    assert set_device(settings("--device_target", target)) == target
    assert backend.told[0] == {"device_target": target, **({"device_id": 0} if target != "CPU" else {})}
    assert ({"ascend_config": {"precision_mode": "must_keep_origin_dtype"}} in backend.told) == (target == "Ascend")


def test_what_mindspore_refuses_is_named(settings, monkeypatch):
    Backend(monkeypatch)

    def refuse(*_):
        raise RuntimeError("it can not be modified\nmore")
    sys.modules["mindspore"].set_device = refuse
    with refused("--device_target CPU", "it can not be modified"):
        set_device(settings("--device_target", "CPU"))


def test_a_device_is_tried_in_a_process_of_its_own():
    assert device_adapter.fault("CPU", 0) is None
    assert device_adapter.fault("Nothing", 0)  # the reason that its process ended with


@pytest.fixture
def moxing(monkeypatch):
    """A stand-in for the package moxing that notes what it is asked to copy; nothing exists at first."""
    copies = []
    module = types.ModuleType("moxing")
    module.file = types.SimpleNamespace(copy_parallel=lambda source, target: copies.append((source, target)),
                                        exists=lambda path: False)
    monkeypatch.setitem(sys.modules, "moxing", module)
    module.copies = copies
    return module


@pytest.fixture
def cloud(settings):
    return settings("--enable_modelarts", "--data_url", "obs://b/data", "--train_url", "obs://b/out/")


def test_modelarts_fetches_before_and_sends_after(cloud, moxing, tmp_path):
    data, results = ("obs://b/data", str(tmp_path / "data")), (str(tmp_path / "output"), "obs://b/out/output")
    with adapter(cloud).session(cloud):
        assert moxing.copies == [data]
        Path(cloud.output_path).mkdir()
    assert moxing.copies[1:] == [results]
    moxing.file.exists = lambda path: True  # of an earlier job
    with adapter(cloud).session(cloud):
        assert moxing.copies[2:] == [data, results[::-1], ("obs://b/out/checkpoint", cloud.checkpoint_path)]


def test_modelarts_sends_the_log_of_a_stage_that_failed(moxing, tmp_path):
    def fail(config):
        raise InputError("the stage failed")

    def copy(source, target):
        if Path(source).is_dir():
            shutil.copytree(source, target)
    moxing.file.copy_parallel = copy
    with pytest.raises(SystemExit):
        stage.main(fail, "test", "", ["--enable_modelarts", "--train_url", str(tmp_path / "cloud"),
                                      "--output_path", str(tmp_path / "output")])
    assert "error: the stage failed" in (tmp_path / "cloud" / "output" / "test.log").read_text()


def test_modelarts_names_a_copy_that_fails_and_a_package_that_is_missing(cloud, moxing, monkeypatch):
    def refuse(source, target):
        raise OSError("403")
    moxing.file.copy_parallel = refuse
    for names in (("--data_url", "obs://b/data", "403"), ("--enable_modelarts", "moxing")):
        with refused(*names), adapter(cloud).session(cloud):
            pass
        monkeypatch.setitem(sys.modules, "moxing", None)


def test_moxing_is_imported_only_where_it_is_needed(settings, tmp_path):
    ran = []
    stage.main(ran.append, "test", "", ["--output_path", str(tmp_path / "o")])
    assert len(ran) == 1 and "moxing" not in sys.modules
