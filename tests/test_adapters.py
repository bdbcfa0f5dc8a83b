import contextlib
import itertools
import os
import secrets
import shutil
import sys
import types
from pathlib import Path

import pytest

from src import device_adapter
from src.common import stage
from src.common.errors import InputError
from src.config import load_config
from src.device_adapter import adapter, set_device
from tests.small import refused


class Backend:
    """A MindSpore of some version with some devices, and what it was told to do."""

    def __init__(self, monkeypatch, devices=(), broken=(), old=False):
        self.told = []
        module = types.SimpleNamespace(__version__="2.0.0" if old else "2.10.0", __file__="__init__.py", GRAPH_MODE=0,
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


LACKING = {"11.1": ["libcuda.so.1", "libcudnn.so.8", "libnvrtc.so.11.1"], "11.6": ["libcuda.so.1", "libcudnn.so.8"]}


@pytest.mark.parametrize("parts, ldd, named", [
    (LACKING, True, "missing: libcuda.so.1 (the NVIDIA driver), libcudnn.so.8, see docs/training.md"),
    ({}, True, "missing: a part for it in this package of MindSpore, see docs/training.md"),
    ({**LACKING, "11.6": []}, True, None), (LACKING, False, None)])
def test_what_the_part_for_the_gpu_lacks_is_named(settings, monkeypatch, tmp_path, parts, ldd, named):
    Backend(monkeypatch)
    sys.modules["mindspore"].__file__ = str(tmp_path / "__init__.py")
    (tmp_path / "lib" / "plugin").mkdir(parents=True)
    for cuda, names in parts.items():
        (tmp_path / "lib" / "plugin" / f"libmindspore_gpu.so.{cuda}").write_text(
            "\tlibc.so.6 => /lib/libc.so.6 (0x1)\n" + "".join(f"\t{name} => not found\n" for name in names * 2))
    (tmp_path / "ldd").write_text('#!/bin/sh\ncat "$1"\n')
    (tmp_path / "ldd").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}" if ldd else "")
    with refused(f"finds no GPU on this machine{f'; {named}' if named else ''}; use", "--device_target CPU"):
        set_device(settings("--device_target", "GPU"))


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


class Store(types.SimpleNamespace):
    """A stand-in for moxing.file: an object store, in which obs://NAME is a name in a dict; folders are parts of names.

    What is no such address is a path here.
    """

    def __init__(self):
        self.objects, self.clock = {}, itertools.count()

    def put(self, url, content):
        self.objects[url] = content, next(self.clock)

    def texts(self, url="obs://b/out"):
        return {name[len(url) + 1:]: self.objects[name][0].decode() for name in self.objects if name.startswith(f"{url}/")}

    def list_directory(self, url, recursive):
        assert recursive
        return sorted({part for name in self.texts(url) for part in itertools.accumulate(name.split("/"), "{}/{}".format)})

    def is_directory(self, url):
        return url not in self.objects

    def exists(self, url):
        return url in self.objects or bool(self.texts(url))

    def stat(self, url):
        return types.SimpleNamespace(mtime_nsec=self.objects[url][1])

    def remove(self, url):
        del self.objects[url]

    def copy(self, source, target):
        self.put(target, Path(source).read_bytes())

    def copy_parallel(self, source, target):
        if not self.exists(source):
            raise OSError(404, "no such object", source)
        for name in self.texts(source):
            Path(target, name).parent.mkdir(parents=True, exist_ok=True)
            Path(target, name).write_bytes(self.objects[f"{source}/{name}"][0])


@pytest.fixture
def store(monkeypatch):
    module = types.ModuleType("moxing")
    module.file = Store()
    monkeypatch.setitem(sys.modules, "moxing", module)
    return module.file


@pytest.fixture
def job(store, tmp_path):
    """Runs a job of `train_url` on a machine of its own: a function of its folders data, output and checkpoint."""
    def run(stage, data_url="obs://b/out/data", train_url="obs://b/out/", more=()):
        home = tmp_path / secrets.token_hex(4)
        config = load_config(["--enable_modelarts", "--data_url", data_url, "--train_url", train_url, *more,
                              *(part for name in FOLDERS for part in (f"--{name}_path", str(home / name)))])
        with adapter(config).session(config):
            return stage(*(home / name for name in FOLDERS))
    return run


FOLDERS = "data", "output", "checkpoint"
FIRST = {"data/ml/ratings.csv": "1", "data/masked_ml/ratings.csv": "2", "data/masked_ml/held_out.csv": "3",
         "output/receipts/7.json": "4", "output/eval.json": "5", "checkpoint/NCF.ckpt": "6", "checkpoint/NCF.last.ckpt": "7"}


@pytest.fixture
def first(store, job):
    """A first job has read obs://b/in, and has written FIRST under train_url."""
    store.put("obs://b/in/ml/ratings.csv", b"1")

    def stage(data, output, checkpoint):
        assert [p.name for p in data.rglob("*")] == ["ml", "ratings.csv"]
        for name, text in FIRST.items():
            path = data.parent / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        (output / ".lock").touch()  # of this machine
    job(stage, "obs://b/in/")
    assert store.texts() == FIRST and store.texts("obs://b/in") == {"ml/ratings.csv": "1"}
    return FIRST


def remove_one(data, output, checkpoint):
    (checkpoint / "NCF.last.ckpt").unlink()
    return ["checkpoint/NCF.last.ckpt"]


def rename_one(data, output, checkpoint):
    (output / "eval.json").rename(output / "eval_masked.json")
    return ["output/eval.json"]


def remove_folders(data, output, checkpoint):
    shutil.rmtree(data / "masked_ml")
    shutil.rmtree(output)
    return [name for name in FIRST if name.startswith(("data/masked_ml", "output"))]


@pytest.mark.parametrize("change", [remove_one, rename_one, remove_folders])
@pytest.mark.parametrize("fails", [False, True])
def test_what_a_job_removes_is_removed_in_the_store_and_comes_back_in_no_later_job(store, job, first, change, fails):
    before = dict(store.objects)

    def stage(data, output, checkpoint):
        assert {p.relative_to(data.parent).as_posix(): p.read_text() for p in data.parent.rglob("*") if p.is_file()} == first
        removed.extend(change(data, output, checkpoint))
        if fails:
            raise InputError("the stage failed")
    removed = []
    with contextlib.suppress(InputError):
        job(stage)
    added = {"output/eval_masked.json": "5"} if change is rename_one else {}
    assert store.texts() == {name: text for name, text in first.items() if name not in removed} | added
    assert all(store.objects[name] == before[name] for name in store.objects.keys() & before.keys())  # none was sent again

    def later(*folders):
        assert not any((folders[0].parent / name).exists() for name in removed)
    job(later)


def test_what_another_job_has_written_stays(store, job, first):
    """A job sends what it has changed and removes what it has fetched, if nobody has written it since."""
    def stage(data, output, checkpoint):
        remove_folders(data, output, checkpoint)
        store.put("obs://b/out/output/eval.json", b"another's")
        store.put("obs://b/out/output/new.json", b"another's")
        store.put("obs://b/out/data/masked_ml/new.csv", b"another's")
        store.remove("obs://b/out/checkpoint/NCF.last.ckpt")
        (checkpoint / "NCF.ckpt").write_text("changed")
    job(stage)
    assert store.texts() == {"data/ml/ratings.csv": "1", "checkpoint/NCF.ckpt": "changed", **dict.fromkeys(
        ("data/masked_ml/new.csv", "output/eval.json", "output/new.json"), "another's")}


def test_a_folder_that_is_only_read_loses_nothing(store, job, first):
    def stage(data, output, checkpoint):
        shutil.rmtree(data)
    job(stage, data_url="obs://b/in")
    assert store.texts() == first and store.texts("obs://b/in")
    job(stage, data_url="obs://b/in", train_url="")
    assert store.texts("obs://b/in")
    host = "--ranks 2 --local_ranks 1 --node_rank 1 --master_addr h --master_port 9"  # the first one has the results
    job(lambda data, *_: shutil.rmtree(data), more=host.split())
    assert store.texts() == first


def test_modelarts_sends_the_log_of_a_stage_that_failed(store, tmp_path):
    def fail(config):
        raise InputError("the stage failed")
    with pytest.raises(SystemExit):
        stage.main(fail, "test", "", ["--enable_modelarts", "--train_url", "obs://b/out",
                                      *(f"--{name}_path={tmp_path / name}" for name in ("output", "checkpoint", "data"))])
    assert list(store.texts()) == ["output/test.log"] and "error: the stage failed" in store.texts()["output/test.log"]


def test_modelarts_names_a_copy_that_fails_and_a_package_that_is_missing(store, job, first, monkeypatch):
    def refuse(*_):
        raise OSError("403")
    with refused("--data_url", "obs://b/none", "404"):
        job(remove_one, "obs://b/none")
    for verb in ("remove", "copy"):
        monkeypatch.setattr(store, verb, refuse)
        with refused("--train_url", "obs://b/out/checkpoint" if verb == "remove" else "obs://b/out/output", "403"):
            job(remove_one if verb == "remove" else rename_one)
    monkeypatch.setitem(sys.modules, "moxing", None)
    with refused("--enable_modelarts", "moxing"):
        job(remove_one)


def test_moxing_is_imported_only_where_it_is_needed(settings, tmp_path):
    ran = []
    stage.main(ran.append, "test", "", ["--output_path", str(tmp_path / "o")])
    assert len(ran) == 1 and "moxing" not in sys.modules
