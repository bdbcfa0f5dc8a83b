"""Several hosts, which are network namespaces of this machine with folders of their own."""
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from src.training.checkpoint import read_checkpoint

ROOT = Path(__file__).resolve().parents[2]
HOSTS = 4
SMALL = ["--dataset", "simulation", "--sim_users", 150, "--sim_items", 120, "--sim_ratings", 4000, "--num_eval_neg", 30,
         "--train_epochs", 3, "--device_target", "CPU"]

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("ip"), reason="needs root and ip")]


@pytest.fixture(scope="module")
def network():
    """Four namespaces, 10.78.0.1 to 10.78.0.4, joined by a bridge; yields what names the k-th."""
    name, made = f"rk{os.getpid() % 10000}", []

    def ip(*words):
        subprocess.run(["ip", *map(str, words)], check=True, capture_output=True)
    try:
        ip("link", "add", f"{name}b", "type", "bridge")
        made.append(("link", "del", f"{name}b"))
        ip("link", "set", f"{name}b", "up")
        for k in range(HOSTS):
            ip("netns", "add", f"{name}n{k}")
            made.append(("netns", "del", f"{name}n{k}"))
            ip("link", "add", f"{name}v{k}", "type", "veth", "peer", "name", "eth0", "netns", f"{name}n{k}")
            ip("link", "set", f"{name}v{k}", "master", f"{name}b", "up")
            for words in (("link", "set", "lo", "up"), ("addr", "add", f"10.78.0.{k + 1}/24", "dev", "eth0"),
                          ("link", "set", "eth0", "up")):
                ip("-n", f"{name}n{k}", *words)
        yield f"{name}n{{}}"
    except subprocess.CalledProcessError as e:
        pytest.skip(f"no namespaces here: {e.stderr.decode()}")
    finally:
        for words in reversed(made):
            subprocess.run(["ip", *words], capture_output=True)


class Hosts:
    """Programs on some of the namespaces, in folders of their own under `folder`."""

    def __init__(self, folder, network, number, port):
        self.folder, self.network, self.number, self.port = folder, network, number, port

    def line(self, k, program, *options, address="10.78.0.1"):
        own = [f"--{what}_path={self.folder / str(k) / what}" for what in ("data", "output", "checkpoint")]
        several = [*SMALL, "--ranks", self.number, "--local_ranks", 1, "--node_rank", k, "--master_addr", address,
                   "--master_port", self.port, *options]
        line = ["-m", "src.movielens", *own, *SMALL[:8]] if program == "data" else [ROOT / f"{program}.py", *own, *several]
        return ["ip", "netns", "exec", self.network.format(k), sys.executable, *map(str, line)]

    def start(self, k, program, *options, **more):
        return subprocess.Popen(self.line(k, program, *options, **more), cwd=ROOT, text=True, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE)

    def run(self, program, *options):
        """What host 0 says, when all have ended well."""
        if program == "data":
            for k in range(self.number):
                subprocess.run(self.line(k, program), cwd=ROOT, check=True, capture_output=True)
            return ""
        running = [self.start(k, program, *options) for k in range(self.number)]
        said = [one.communicate(timeout=300) for one in running]
        assert [one.returncode for one in running] == [0] * self.number, said
        return said[0][0]

    def values(self, name):
        return read_checkpoint(self.folder / "0" / "checkpoint" / name, "")[0]


def on_one(folder, ranks, program, *options):
    line = [f"--{what}_path={folder / what}" for what in ("data", "output", "checkpoint")]
    line += map(str, [*SMALL, "--ranks", ranks, *options])
    subprocess.run([sys.executable, ROOT / f"{program}.py", *line], check=True, capture_output=True)


def test_hosts_train_and_decide_as_ranks_of_one_host_do(network, tmp_path):
    hosts = Hosts(tmp_path, network, 2, 8411)
    hosts.run("data")
    one = tmp_path / "one"
    shutil.copytree(tmp_path / "0", one)
    on_one(one, 2, "train")
    hosts.run("train")
    for name, value in read_checkpoint(one / "checkpoint" / "NCF.ckpt", "")[0].items():
        np.testing.assert_array_equal(hosts.values("NCF.ckpt")[name], value)
    shutil.copytree(tmp_path / "0" / "output", one / "output", dirs_exist_ok=True)
    shutil.copytree(tmp_path / "0" / "checkpoint", one / "checkpoint", dirs_exist_ok=True)
    on_one(one, 1, "preprocess")
    hosts.run("preprocess")  # the other host is sent the model
    for name in ("ratings.csv", "held_out.csv"):
        twin = f"data/masked_simulation/{name}"
        assert (tmp_path / "0" / twin).read_bytes() == (one / twin).read_bytes()
    on_one(one, 2, "train", "--masked")
    hosts.run("train", "--masked")  # and the mask
    for name, value in read_checkpoint(one / "checkpoint" / "IFRQE.ckpt", "")[0].items():
        np.testing.assert_array_equal(hosts.values("IFRQE.ckpt")[name], value)
    assert "hr@10" in hosts.run("eval", "--masked")


def test_a_host_that_is_killed_or_not_reached_ends_all_and_resume_goes_on(network, tmp_path):
    hosts = Hosts(tmp_path, network, 4, 8412)
    hosts.run("data")
    begin = time.monotonic()
    lost = hosts.start(1, "train", address="10.78.0.99")
    one = tmp_path / "one"
    shutil.copytree(tmp_path / "0" / "data", one / "data")
    on_one(one, 4, "train", "--train_epochs", "30")
    _, said = lost.communicate(timeout=70)
    assert time.monotonic() - begin < 90 and lost.returncode == 2 and "10.78.0.99" in said and said.count("\n") == 1

    running = [hosts.start(k, "train", "--train_epochs", 30) for k in range(4)]
    kept = tmp_path / "0" / "checkpoint" / "NCF.last.ckpt"
    while not kept.exists():
        assert all(process.poll() is None for process in running)
        time.sleep(0.05)
    begin = time.monotonic()
    running[2].kill()
    for k in (0, 1, 3):
        _, said = running[k].communicate(timeout=60)
        assert running[k].returncode == 2 and "rank 2 of 4 on host 2" in said and said.count("\n") == 1
    assert time.monotonic() - begin < 60
    assert "going on after epoch" in hosts.run("train", "--train_epochs", 30, "--resume")
    for name, value in read_checkpoint(one / "checkpoint" / "NCF.ckpt", "")[0].items():
        np.testing.assert_array_equal(hosts.values("NCF.ckpt")[name], value)
