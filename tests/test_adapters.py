import shutil
import sys
import types
from pathlib import Path

import pytest

from src import stage
from src.device_adapter import adapter, set_device
from src.errors import InputError


def test_auto_takes_a_device_that_is_there(settings):
    assert set_device(settings("--device_target", "auto")) in ("CPU", "GPU", "Ascend")


def test_a_missing_accelerator_is_named_with_the_way_out(settings, monkeypatch):
    import mindspore
    monkeypatch.setattr(mindspore.hal, "is_available", lambda target: False)
    with pytest.raises(InputError, match="--device_target GPU: .*finds no GPU on this machine; use the scripts .*_cpu.sh"):
        set_device(settings("--device_target", "GPU"))
    assert set_device(settings("--device_target", "auto")) == "CPU"


def test_local_sessions_copy_nothing(settings):
    config = settings()
    assert adapter(config).__name__ == "src.local_adapter"
    with adapter(config).session(config) as inside:
        assert inside is config


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
    return settings("--enable_modelarts", "--data_url", "obs://b/data", "--checkpoint_url", "obs://b/ck",
                    "--train_url", "obs://b/out/")


def test_modelarts_fetches_before_and_sends_after(cloud, moxing, tmp_path):
    with adapter(cloud).session(cloud):
        assert moxing.copies == [("obs://b/data", str(tmp_path / "data")), ("obs://b/ck", str(tmp_path / "checkpoint"))]
        Path(cloud.output_path).mkdir()
    assert moxing.copies[2:] == [(str(tmp_path / "output"), "obs://b/out/output")]


def test_modelarts_fetches_the_results_of_an_earlier_job(cloud, moxing):
    moxing.file.exists = lambda path: path == "obs://b/out/output"
    with adapter(cloud).session(cloud):
        assert moxing.copies[-1] == ("obs://b/out/output", cloud.output_path)


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


def test_modelarts_copy_that_fails_is_named(cloud, moxing):
    def refuse(source, target):
        raise OSError("403")
    moxing.file.copy_parallel = refuse
    with pytest.raises(InputError, match="--data_url: copying obs://b/data to .* failed .403."):
        with adapter(cloud).session(cloud):
            pass


def test_modelarts_without_moxing_is_named(cloud, monkeypatch):
    monkeypatch.setitem(sys.modules, "moxing", None)
    with pytest.raises(InputError, match="--enable_modelarts: the package moxing is not installed"):
        with adapter(cloud).session(cloud):
            pass


def test_moxing_is_imported_only_where_it_is_needed(settings, tmp_path):
    ran = []
    stage.main(ran.append, "test", "", ["--output_path", str(tmp_path / "o")])
    assert len(ran) == 1 and "moxing" not in sys.modules
